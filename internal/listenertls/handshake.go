package listenertls

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// timeout bounds a handshake with a service of this host.
const timeout = 5 * time.Second

// Ask is the [Handshake] over TCP. The connection comes from the address that it goes
// to: where that has left this host since, the kernel does not bind the socket, and
// no byte goes to the host that has it now (bind(2), EADDRNOTAVAIL).
func Ask(to netip.AddrPort, serverName string) probe.Result {
	module := probe.Module{Name: "listener_tls", Kind: probe.KindTCP, Timeout: timeout, Prober: &prober.TCP{
		SourceAddress: to.Addr(),
		Conversation:  prober.Conversation{TLS: true, TLSConfig: unverified},
	}}
	return module.Probe(context.Background(), probe.Request{Address: to.String(), Hostname: serverName})
}

// unverified takes every certificate, and every version of TLS, for it only reads
// them. A name that is an address is not sent (RFC 6066, section 3).
func unverified(string) (*tls.Config, error) {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}, nil
}

// WellKnown returns the ports that are TLS from the first byte, by registration or by
// custom. None is one of STARTTLS, and none of a service that prints what it is sent.
func WellKnown() []socket.PortRange {
	var ranges []socket.PortRange
	for _, port := range []uint16{
		443, 465, 563, 636, 853, 990, 992, 993, 995, 2376, 3269, 5061, 5671, 5986, 6443, 6514, 6697,
		8443, 8883, 9443, 10250, 10257, 10259,
	} {
		ranges = append(ranges, socket.PortRange{First: port, Last: port})
	}
	return ranges
}
