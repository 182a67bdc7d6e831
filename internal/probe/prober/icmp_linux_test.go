package prober

import (
	"context"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// everybodyPings lets every group ping without privilege, and nobodyPings none.
const (
	everybodyPings = "0 2147483647"
	nobodyPings    = "1 0"
	pingRange      = "net/ipv4/ping_group_range"
)

// TestPingsInNamespace pings hosts behind a router, by an unprivileged socket and
// by a raw one: what is said of a failure must be the same.
func TestPingsInNamespace(t *testing.T) {
	t.Parallel()
	for name, groups := range map[string]string{"unprivileged": everybodyPings, "raw": nobodyPings} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := porttest.NewNetwork(t)
			porttest.Sysctl(t, pingRange, groups)
			n.Router.Do(t, func() { setMTU(t, "eth1", 1300) })
			n.Server.Do(t, func() { setMTU(t, "eth0", 1300) })
			if name == "raw" {
				pings(t)
				return
			}
			becomeNobody(t)
			pings(t)
		})
	}
}

func setMTU(t *testing.T, name string, mtu int) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		t.Fatal(err)
	}
}

func pings(t *testing.T) {
	const deadHost, deadHost6 = "198.51.100.9", "2001:db8:2::9"
	for _, tt := range []struct {
		name, target string
		settings     ICMP
		outcome      probe.Outcome
		origin       probe.Origin
		offender     string
		hopLimit     float64
		text         string
	}{
		{"open", porttest.ServerIP4, ICMP{}, probe.Open, probe.OriginNone, "", 63, ""},
		{"open, IPv6", porttest.ServerIP6, ICMP{}, probe.Open, probe.OriginNone, "", 63, ""},
		{"open, from an address", porttest.ServerIP4, ICMP{SourceAddress: netip.MustParseAddr(porttest.ClientIP4)}, probe.Open, probe.OriginNone, "", 63, ""},
		{"open, TTL enough", porttest.ServerIP4, ICMP{TTL: 2}, probe.Open, probe.OriginNone, "", 63, ""},
		{"too far away", porttest.ServerIP4, ICMP{TTL: 1}, probe.Unreachable, probe.OriginNetwork, porttest.RouterClientIP4, 0, "the TTL ran out (ICMP type 11 code 0)"},
		{"too far away, IPv6", porttest.ServerIP6, ICMP{TTL: 1}, probe.Unreachable, probe.OriginNetwork, porttest.RouterClientIP6, 0, "the hop limit ran out (ICMP type 3 code 0)"},
		{"host down behind the router", deadHost, ICMP{}, probe.Unreachable, probe.OriginNetwork, porttest.RouterClientIP4, 0, "host unreachable (ICMP type 3 code 1)"},
		{"host down behind the router, IPv6", deadHost6, ICMP{}, probe.Unreachable, probe.OriginNetwork, porttest.RouterClientIP6, 0, "address unreachable (ICMP type 1 code 3)"},
		{"larger than the path takes", porttest.ServerIP4, ICMP{PayloadSize: 1450, DontFragment: true}, probe.Mismatch, probe.OriginNetwork, porttest.RouterClientIP4, 0, "a packet of 1478 bytes is larger than the path takes: MTU 1300, as " + porttest.RouterClientIP4 + " reports"},
		{"again: nothing was learned", porttest.ServerIP4, ICMP{PayloadSize: 1450, DontFragment: true}, probe.Mismatch, probe.OriginNetwork, porttest.RouterClientIP4, 0, "MTU 1300, as " + porttest.RouterClientIP4 + " reports"},
		{"as large as the path takes", porttest.ServerIP4, ICMP{PayloadSize: 1272, DontFragment: true}, probe.Open, probe.OriginNone, "", 63, ""},
		{"larger than this host takes", porttest.ServerIP4, ICMP{PayloadSize: 1473, DontFragment: true}, probe.Mismatch, probe.OriginLocal, "", 0, "a packet of 1501 bytes is larger than the path takes: MTU "},
		{"in fragments", porttest.ServerIP4, ICMP{PayloadSize: 1450}, probe.Open, probe.OriginNone, "", 63, ""},
		{"in many fragments", porttest.ServerIP4, ICMP{PayloadSize: 60000}, probe.Open, probe.OriginNone, "", 63, ""},
		{"in fragments, IPv6", porttest.ServerIP6, ICMP{PayloadSize: 1450}, probe.Open, probe.OriginNone, "", 63, ""},
		{"a source that is not here", porttest.ServerIP4, ICMP{SourceAddress: netip.MustParseAddr("192.0.2.77")}, probe.LocalError, probe.OriginLocal, "", 0, "bind"},
		{"more than a packet has room for", porttest.ServerIP4, ICMP{PayloadSize: 65508}, probe.LocalError, probe.OriginLocal, "", 0, "payload_size"},
	} {
		result := pingFor(t, &tt.settings, tt.target, 20*time.Second)
		if result.Outcome != tt.outcome || result.Origin != tt.origin {
			t.Errorf("%s: %s, origin %s: %v", tt.name, result.Outcome, result.Origin, result.Err)
			continue
		}
		if tt.offender != "" && result.ICMP.Offender.String() != tt.offender {
			t.Errorf("%s: the offender is %s", tt.name, result.ICMP.Offender)
		}
		if tt.text != "" && !strings.Contains(result.Err.Error(), tt.text) {
			t.Errorf("%s: %q lacks %q", tt.name, result.Err, tt.text)
		}
		hops, _ := valueOf(result, icmpHopLimit)
		rtt := phaseOf(result, "rtt")
		if hops != tt.hopLimit || (rtt > 0) != (tt.outcome == probe.Open) {
			t.Errorf("%s: hop limit %v, round trip %v", tt.name, hops, rtt)
		}
	}
}

// phaseOf returns a phase of probe_icmp_duration_seconds.
func phaseOf(r probe.Result, phase string) float64 {
	for _, s := range r.Samples {
		if s.Metric == icmpDuration && s.Labels[0] == phase {
			return s.Value
		}
	}
	return -1
}

func pingFor(t *testing.T, p *ICMP, target string, timeout time.Duration) probe.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return p.Probe(ctx, probe.Request{Address: target})
}

// TestPingWithoutPrivilegeInNamespace has neither a group that may ping nor
// CAP_NET_RAW.
func TestPingWithoutPrivilegeInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, pingRange, nobodyPings)
	becomeNobody(t)
	result := pingFor(t, &ICMP{}, "127.0.0.1", 5*time.Second)
	if result.Outcome != probe.LocalError || result.Origin != probe.OriginLocal || !strings.Contains(sentence("127.0.0.1", &result), "CAP_NET_RAW") {
		t.Errorf("%s: %v: %s", result.Outcome, result.Err, sentence("127.0.0.1", &result))
	}
}

// becomeNobody takes root's rights from the thread of the test, which is that of
// its namespace and ends with it.
func becomeNobody(t *testing.T) {
	t.Helper()
	const nobody = 65534
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 { // not [unix.Setresuid], which is for all threads
		t.Fatal(errno)
	}
}

// TestPingsHaveIDsOfTheirOwnInNamespace looks at the ids on the wire: with one
// id, the state of a NAT box outlives a change of its address, and pings fail
// until a restart.
func TestPingsHaveIDsOfTheirOwnInNamespace(t *testing.T) {
	for name, groups := range map[string]string{"unprivileged": everybodyPings, "raw": nobodyPings} {
		t.Run(name, func(t *testing.T) {
			porttest.Namespace(t)
			porttest.Sysctl(t, pingRange, groups)
			const ip = unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8 // in network order
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, ip)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			const probes = 8
			for range probes {
				if result := pingFor(t, &ICMP{}, "127.0.0.1", 10*time.Second); result.Outcome != probe.Open {
					t.Fatal(result.Err)
				}
			}
			seen := map[uint16]bool{}
			b := make([]byte, 256)
			for {
				n, _, err := unix.Recvfrom(fd, b, 0)
				if err != nil {
					break
				}
				if header := int(b[0]&0xf) * 4; n >= header+8 && b[9] == unix.IPPROTO_ICMP && b[header] == 8 {
					seen[binary.BigEndian.Uint16(b[header+4:])] = true
				}
			}
			if len(seen) != probes {
				t.Errorf("%d ids in %d probes", len(seen), probes)
			}
		})
	}
}
