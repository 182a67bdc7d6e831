package collector

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/listenertls"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// storyCertificates has one that is read, one that came although the handshake
// failed, and a listener that is not TLS.
func storyCertificates(table *socket.Table, _ map[netip.Addr]string) (found []listenertls.Found, leftOut int) {
	for _, l := range table.Listeners {
		f := listenertls.Found{ListenerID: l.ListenerID, At: time.Unix(1_800_000_000-90, 0)}
		switch l.Port {
		case 443:
			f.Certificate = &prober.Certificate{Expiry: 1_900_000_000, Subject: "CN=www.example.org", Issuer: "CN=R3,O=Let's Encrypt", SHA256: "0a0b", Version: "TLS 1.3"}
		case 8443:
			f.Outcome = probe.TLSHandshake
			f.Certificate = &prober.Certificate{Expiry: 1_700_000_000, Subject: "CN=a\n\x1b[31m\"b", Issuer: strings.Repeat("ü", 4000), SHA256: "0c"}
		default:
			f.Outcome = probe.Closed
		}
		found = append(found, f)
	}
	return found, 2
}

// TestCertificatesWithoutAddresses has no half of them.
func TestCertificatesWithoutAddresses(t *testing.T) {
	o := options(stories["certificates"])
	o.Certificates = storyCertificates
	o.Addresses = func() (map[netip.Addr]string, error) { return nil, errBusy }
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"certificates"}})
	if !strings.Contains(got, `port_scrape_collector_success{collector="certificates"} 0`) || strings.Contains(got, "port_listener_tls") {
		t.Errorf("got\n%s", got)
	}
}
