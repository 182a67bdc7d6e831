//go:build !linux

package system

import (
	"context"
	"errors"
	"runtime"

	"github.com/port-exporter/port_exporter/internal/psnet"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// ephemeralPorts returns the range that the system starts with; that it was
// changed is not seen. macOS and Windows have the dynamic range of RFC 6335,
// FreeBSD net.inet.ip.portrange (IPPORT_EPHEMERALFIRST in netinet/in.h),
// OpenBSD net.inet.ip.portfirst and portlast (sysctl(2)).
func ephemeralPorts() (socket.EphemeralPorts, error) {
	switch runtime.GOOS {
	case "freebsd":
		return socket.EphemeralPorts{PortRange: socket.PortRange{First: 10000, Last: 65535}}, nil
	case "openbsd":
		return socket.EphemeralPorts{PortRange: socket.PortRange{First: 1024, Last: 49151}}, nil
	default:
		return socket.EphemeralPorts{PortRange: socket.PortRange{First: 49152, Last: 65535}}, nil
	}
}

func open(_ context.Context, source, _ string) (*System, error) {
	if source != Auto && source != GopsUtil {
		return nil, errors.ErrUnsupported
	}
	return &System{
		Source:         psnet.New(),
		Name:           GopsUtil,
		Protocols:      psnet.Protocols(),
		EphemeralPorts: ephemeralPorts,
	}, nil
}
