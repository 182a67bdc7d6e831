package collector

import (
	"context"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/listenertls"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	certificateExpiry = gauge("port_listener_tls_certificate_expiry_timestamp_seconds",
		"Earliest expiry of the certificates a listener sends, in seconds since the epoch.", listenerLabels...)
	certificateInfo = gauge("port_listener_tls_info",
		"Leaf certificate and TLS version of a listener; always 1.",
		bind(listenerLabels, "subject", "issuer", "fingerprint_sha256", "version")...)
	handshakeOutcome = gauge("port_listener_tls_outcome_info",
		"Outcome of the last TLS handshake with a listener; always 1.", bind(listenerLabels, "outcome")...)
	handshakeAge = gauge("port_listener_tls_age_seconds",
		"Age of the last TLS handshake with a listener, in seconds.", listenerLabels...)
)

// Certificates returns what is known of the certificates of the listeners in a table,
// and how many listening sockets were left out. It does not wait for a listener.
// Own has the addresses of this host with their devices.
type Certificates func(table *socket.Table, own map[netip.Addr]string) (found []listenertls.Found, leftOut int)

// certificates exports the certificates of this host's listeners.
type certificates struct {
	read      Certificates
	addresses func() (map[netip.Addr]string, error)
	memory    *Memory // for the time
}

func (certificates) Name() string { return "certificates" }

func (certificates) Families() []*Family {
	return []*Family{certificateExpiry, certificateInfo, handshakeOutcome, handshakeAge}
}

func (c certificates) Collect(_ context.Context, host *Snapshot, out *Output) error {
	table, err := host.Listening()
	if err != nil {
		return err
	}
	own, err := c.addresses()
	if err != nil {
		return err
	}
	found, leftOut := c.read(table, own)
	for _, f := range found {
		id := labelsOf(f.ListenerID)
		out.add(handshakeOutcome, 1, bind(id, f.Outcome.String())...)
		out.add(handshakeAge, c.memory.history.Now().Sub(f.At).Seconds(), id...)
		if sent := f.Certificate; sent != nil {
			out.add(certificateExpiry, sent.Expiry, id...)
			out.add(certificateInfo, 1, bind(id, boundValue(sent.Subject), boundValue(sent.Issuer), sent.SHA256, sent.Version)...)
		}
	}
	out.fold(certificateInfo, leftOut)
	return nil
}
