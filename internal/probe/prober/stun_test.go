package prober

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v3"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// stunServer is a server of RFC 5780 on two addresses and two ports, whose
// messages are those of pion/stun.
type stunServer struct {
	conns [2][2]*net.UDPConn // by address and port; the first is the primary
	// alone makes it a server without OTHER-ADDRESS.
	alone bool
	// deaf makes it answer from where it was asked, whatever it is asked to change.
	deaf bool
	// other is what it says in OTHER-ADDRESS; the zero value is the truth.
	other netip.AddrPort
	// lose makes it ignore the first datagrams.
	lose atomic.Int32
}

// serveSTUN starts a server in the caller's network namespace. A port of 0 is any
// that is free.
func serveSTUN(t testing.TB, addresses [2]string, ports [2]int, change ...func(*stunServer)) *stunServer {
	t.Helper()
	s := &stunServer{}
	for _, f := range change {
		f(s)
	}
	for j, port := range ports {
		s.conns[0][j], s.conns[1][j] = listenOnBoth(t, addresses, port)
	}
	for i := range s.conns {
		for j := range s.conns[i] {
			done := make(chan struct{})
			go func() { defer close(done); s.serve(i, j) }()
			t.Cleanup(func() { s.conns[i][j].Close(); <-done })
		}
	}
	return s
}

// listenOnBoth binds the same port of both addresses.
func listenOnBoth(t testing.TB, addresses [2]string, port int) (first, second *net.UDPConn) {
	t.Helper()
	for range 20 {
		var err error
		if first, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addresses[0]), Port: port}); err != nil {
			t.Fatal(err)
		}
		if second, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addresses[1]), Port: first.LocalAddr().(*net.UDPAddr).Port}); err == nil {
			return first, second
		}
		first.Close() // the second address has that port taken
	}
	t.Fatal("no port is free on both addresses")
	return nil, nil
}

func (s *stunServer) serve(i, j int) {
	buffer := make([]byte, 2048)
	for {
		n, from, err := s.conns[i][j].ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		request := &stun.Message{Raw: append([]byte(nil), buffer[:n]...)}
		if request.Decode() != nil || request.Type != stun.BindingRequest || s.lose.Add(-1) >= 0 {
			continue
		}
		answering := s.conns[i][j]
		if value, err := request.Get(stun.AttrChangeRequest); err == nil && len(value) == 4 && !s.deaf {
			flags := binary.BigEndian.Uint32(value)
			answering = s.conns[i^int(flags>>2&1)][j^int(flags>>1&1)]
		}
		setters := []stun.Setter{request, stun.BindingSuccess, &stun.XORMappedAddress{IP: from.Addr().Unmap().AsSlice(), Port: int(from.Port())}}
		if !s.alone {
			other := s.other
			if !other.IsValid() {
				other = s.conns[1-i][1-j].LocalAddr().(*net.UDPAddr).AddrPort()
			}
			setters = append(setters, &stun.OtherAddress{IP: other.Addr().Unmap().AsSlice(), Port: int(other.Port())})
		}
		if response, err := stun.Build(setters...); err == nil {
			_, _ = answering.WriteToUDPAddrPort(response.Raw, from)
		}
	}
}

func (s *stunServer) address() string { return s.conns[0][0].LocalAddr().String() }

// natSeen is what a probe says of a NAT.
type natSeen struct {
	NAT, PortPreserved string
	Mapping, Filtering string
}

func natOf(r probe.Result) natSeen {
	var seen natSeen
	digit := map[float64]string{0: "0", 1: "1"}
	for _, s := range r.Samples {
		switch s.Metric {
		case stunNAT:
			seen.NAT = digit[s.Value]
		case stunPortPreserved:
			seen.PortPreserved = digit[s.Value]
		case stunMappingInfo:
			seen.Mapping, seen.Filtering = s.Labels[0], s.Labels[1]
		}
	}
	return seen
}

// TestSTUNWithoutNAT asks servers on loopback.
func TestSTUNWithoutNAT(t *testing.T) {
	t.Parallel()
	addresses := [2]string{"127.0.0.1", "127.0.0.2"}
	for _, c := range []struct {
		name    string
		change  func(*stunServer)
		request probe.Request
		timeout time.Duration
		want    natSeen
	}{
		{
			name: "no other address", change: func(s *stunServer) { s.alone = true },
			want: natSeen{"0", "1", "unknown", "unknown"},
		},
		{
			name: "an other address that nobody has", change: func(s *stunServer) { s.other = netip.MustParseAddrPort("224.0.0.1:1") },
			want: natSeen{"0", "1", "unknown", "unknown"},
		},
		{
			name: "an other address of another kind", change: func(s *stunServer) { s.other = netip.MustParseAddrPort("192.0.2.1:1") },
			want: natSeen{"0", "1", "unknown", "unknown"},
		},
		{
			name:    "an other address that is not allowed",
			request: probe.Request{Allow: func(a netip.AddrPort) error { return forbidIf(a.Addr() == netip.MustParseAddr("127.0.0.2")) }},
			want:    natSeen{"0", "1", "unknown", "endpoint-independent"},
		},
		{
			name: "a server that changes nothing", change: func(s *stunServer) { s.deaf = true },
			want: natSeen{"0", "1", "endpoint-independent", "unknown"},
		},
		{
			name: "lost datagrams", change: func(s *stunServer) { s.lose.Store(2) }, timeout: 5 * time.Second,
			want: natSeen{"0", "1", "endpoint-independent", "endpoint-independent"},
		},
		{name: "all is well", want: natSeen{"0", "1", "endpoint-independent", "endpoint-independent"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.change == nil {
				c.change = func(*stunServer) {}
			}
			server := serveSTUN(t, addresses, [2]int{}, c.change)
			c.request.Address = server.address()
			result := probeFor(t, &STUN{}, max(c.timeout, 4*time.Second), c.request)
			if result.Outcome != probe.Open {
				t.Fatalf("%s in %s: %v", result.Outcome, result.Phase, result.Err)
			}
			if diff := cmp.Diff(c.want, natOf(result)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func forbidIf(when bool) error {
	if when {
		return errors.New("forbidden")
	}
	return nil
}

func TestSTUNOutcomes(t *testing.T) {
	t.Parallel()
	respond := func(setters ...stun.Setter) func(int, []byte) [][]byte {
		return func(_ int, b []byte) [][]byte {
			request := &stun.Message{Raw: append([]byte(nil), b...)}
			if request.Decode() != nil {
				return nil
			}
			response, err := stun.Build(append([]stun.Setter{request}, setters...)...)
			if err != nil {
				return nil
			}
			return [][]byte{response.Raw}
		}
	}
	mapped := &stun.XORMappedAddress{IP: net.IPv4(203, 0, 113, 1), Port: 1}
	good := respond(stun.BindingSuccess, mapped)
	for _, c := range []struct {
		name    string
		server  func(int, []byte) [][]byte
		outcome probe.Outcome
	}{
		{"silence", func(int, []byte) [][]byte { return nil }, probe.NoReply},
		{"garbage", always("garbage"), probe.Protocol},
		{"a flood of garbage", func(int, []byte) [][]byte {
			return append(make([][]byte, 200), []byte("x"))
		}, probe.Protocol},
		{"the request come back", func(_ int, b []byte) [][]byte { return [][]byte{b} }, probe.Protocol},
		{"no mapped address", respond(stun.BindingSuccess), probe.Protocol},
		{"another transaction", respond(stun.TransactionID, stun.BindingSuccess, mapped), probe.Protocol},
		{"an error", respond(stun.BindingError, stun.CodeUnauthorized), probe.Status},
		{"garbage before the response", func(i int, b []byte) [][]byte {
			return append([][]byte{[]byte("garbage"), nil}, good(i, b)...)
		}, probe.Open},
		{"a response", good, probe.Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			result := probeFor(t, &STUN{}, 300*time.Millisecond, probe.Request{Address: answer(t, "127.0.0.1", c.server)})
			if result.Outcome != c.outcome {
				t.Errorf("%s, want %s; error: %v", result.Outcome, c.outcome, result.Err)
			}
			if c.outcome == probe.Open {
				if diff := cmp.Diff(natSeen{"1", "0", "unknown", "unknown"}, natOf(result)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if port, _ := valueOf(result, stunMappedPort); port != 1 {
					t.Errorf("mapped port %v, want 1", port)
				}
			} else if seen := natOf(result); seen != (natSeen{}) {
				t.Errorf("a NAT is told without an answer: %+v", seen)
			}
		})
	}
}

// TestSTUNRetransmits reads when requests come: RFC 8489 wants 0, 500, 1500 and
// 3500 ms for an RTO of 500 ms.
func TestSTUNRetransmits(t *testing.T) {
	t.Parallel()
	arrivals := make(chan time.Time, 8)
	server := answer(t, "127.0.0.1", func(int, []byte) [][]byte { arrivals <- time.Now(); return nil })
	start := time.Now()
	probeFor(t, &STUN{}, 2500*time.Millisecond, probe.Request{Address: server})
	var got []time.Duration
	for range len(arrivals) {
		got = append(got, (<-arrivals).Sub(start))
	}
	want := []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond}
	inTime := func(a, b time.Duration) bool { return b <= a && a < b+450*time.Millisecond }
	if !slices.EqualFunc(got, want, inTime) {
		t.Errorf("requests after %s, want a little more than %s", got, want)
	}
}

// TestOtherAddress has what a server may say of itself, and send us to.
func TestOtherAddress(t *testing.T) {
	for _, c := range []struct {
		name, server, other string
		plausible           bool
	}{
		{"private for a public one", "203.0.113.1:3478", "10.9.0.9:3479", false},
		{"of the provider for a public one", "203.0.113.1:3478", "100.64.0.1:3479", false},
		{"unique local for a public one", "[2001:db8::1]:3478", "[fd00::1]:3479", false},
		{"public for a private one", "10.0.0.1:3478", "203.0.113.1:3479", false},
		{"private for one of the provider", "100.64.0.1:3478", "10.0.0.1:3479", false},
		{"loopback for a public one", "203.0.113.1:3478", "127.0.0.1:3479", false},
		{"loopback in disguise", "[2001:db8::1]:3478", "[2002:7f00:1::]:3479", false},
		{"private in disguise", "[2001:db8::1]:3478", "[64:ff9b::10.9.0.9]:3479", false},
		{"private in a disguise of many", "[2001:db8::1]:3478", "[64:ff9b:1::10.9.0.9]:3479", false},
		{"metadata for a private one", "10.0.0.1:3478", "169.254.169.254:3479", false},
		{"metadata for a public one", "203.0.113.1:3478", "168.63.129.16:3479", false},
		{"metadata for one that is link-local", "169.254.1.1:3478", "169.254.169.254:3479", false},
		{"broadcast", "203.0.113.1:3478", "255.255.255.255:3479", false},
		{"class E", "203.0.113.1:3478", "240.0.0.1:3479", false},
		{"multicast", "203.0.113.1:3478", "224.0.0.1:3479", false},
		{"unspecified", "127.0.0.1:3478", "0.0.0.0:3479", false},
		{"another family", "203.0.113.1:3478", "[2001:db8::1]:3479", false},
		{"the same address", "203.0.113.1:3478", "203.0.113.1:3479", false},
		{"the same port", "203.0.113.1:3478", "203.0.113.2:3478", false},
		{"no port", "203.0.113.1:3478", "203.0.113.2:0", false},
		{"a port of the system", "10.9.0.1:3478", "10.9.0.9:161", false},
		{"none", "203.0.113.1:3478", "", false},

		{"public", "203.0.113.1:3478", "198.51.100.1:3479", true},
		{"public of IPv6", "[2001:db8::1]:3478", "[2001:db8:2::1]:3479", true},
		{"private", "10.0.0.1:3478", "10.0.0.2:3479", true},
		{"loopback", "127.0.0.1:3478", "127.0.0.2:3479", true},
		{"ports of the system", "203.0.113.1:443", "203.0.113.2:80", true},
	} {
		n := natTests{server: netip.MustParseAddrPort(c.server)}
		if c.other != "" {
			n.other = netip.MustParseAddrPort(c.other)
		}
		if got := n.plausible(); got != c.plausible {
			t.Errorf("%s: %s of %s: %t", c.name, c.other, c.server, got)
		}
	}
}
