package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/port-exporter/port_exporter/internal/procnet"
	"github.com/port-exporter/port_exporter/internal/psnet"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// defaultEphemeralPorts is what Linux starts with (inet_init_net in
// net/ipv4/af_inet.c).
var defaultEphemeralPorts = socket.PortRange{First: 32768, Last: 60999}

func open(ctx context.Context, source, procfs string) (*System, error) {
	s := &System{
		Name:           source,
		EphemeralPorts: func() (socket.PortRange, error) { return ephemeralPorts(procfs) },
		SoMaxConn:      func() (int, error) { return soMaxConn(procfs) },
		UnixListeners: func() (path, abstract int, err error) {
			counts, err := procnet.ReadUnixListeners(procfs)
			return counts.Path, counts.Abstract, err
		},
	}
	var err error
	switch source {
	case Auto:
		s.Name = SockDiag
		if s.Source, err = sockdiag.New(ctx); errors.Is(err, errors.ErrUnsupported) {
			s.Name, s.Fallback = ProcFS, err
			s.Source, err = procnet.New(procfs)
		}
	case SockDiag:
		s.Source, err = sockdiag.New(ctx)
	case ProcFS:
		s.Source, err = procnet.New(procfs)
	case GopsUtil:
		s.Source = psnet.New()
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	s.Protocols = socket.Protocols()
	if s.Name == GopsUtil {
		s.Protocols = psnet.Protocols()
	}
	return s, nil
}

// soMaxConn reads net.core.somaxconn of this network namespace.
func soMaxConn(procfs string) (int, error) {
	path := filepath.Join(procfs, "sys/net/core/somaxconn")
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// ephemeralPorts reads net.ipv4.ip_local_port_range of this network namespace;
// it holds for IPv6 too (ip(7)).
func ephemeralPorts(procfs string) (socket.PortRange, error) {
	path := filepath.Join(procfs, "sys/net/ipv4/ip_local_port_range")
	b, err := os.ReadFile(path)
	if err != nil {
		return defaultEphemeralPorts, err
	}
	var r socket.PortRange
	if _, err := fmt.Sscan(string(b), &r.First, &r.Last); err != nil {
		return defaultEphemeralPorts, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
