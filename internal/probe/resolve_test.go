package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// nameServer answers each query as answer makes of it, and returns a resolver
// that asks it.
func nameServer(t *testing.T, answer func(query []byte) []byte) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			if reply := answer(b[:n]); reply != nil {
				_, _ = server.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// rcode answers with a header that has a response code, and the question.
func rcode(code byte) func([]byte) []byte {
	return func(query []byte) []byte {
		end := 12
		for query[end] != 0 {
			end += int(query[end]) + 1
		}
		reply := append([]byte(nil), query[:end+5]...)
		reply[2], reply[3] = 0x81, 0x80|code // RFC 1035 section 4.1.1: QR, RD; RA, RCODE
		copy(reply[6:12], make([]byte, 6))
		return reply
	}
}

// records answers A and AAAA questions with addresses.
func records(addrs ...string) func([]byte) []byte {
	return func(query []byte) []byte {
		reply := rcode(0)(query)
		wantA := reply[len(reply)-3] == 1
		for _, text := range addrs {
			addr := netip.MustParseAddr(text)
			if addr.Is4() == wantA {
				reply[7]++
				reply = append(reply, 0xc0, 12) // the name is that of the question
				reply = append(reply, reply[len(rcode(0)(query))-4:len(rcode(0)(query))]...)
				reply = append(reply, 0, 0, 0, 60, 0, byte(addr.BitLen()/8))
				reply = append(reply, addr.AsSlice()...)
			}
		}
		return reply
	}
}

func TestLookUp(t *testing.T) {
	both := nameServer(t, records("192.0.2.1", "2001:db8::1", "192.0.2.2"))
	only4 := nameServer(t, records("192.0.2.1"))
	for _, tc := range []struct {
		name       string
		resolution Resolution
		host       string
		want       []string
		outcome    Outcome
	}{
		{"NXDOMAIN", Resolution{Resolver: nameServer(t, rcode(3))}, "name.example.", nil, DNSNotFound},
		{"SERVFAIL", Resolution{Resolver: nameServer(t, rcode(2))}, "name.example.", nil, DNSError},
		{"REFUSED", Resolution{Resolver: nameServer(t, rcode(5))}, "name.example.", nil, DNSError},
		{"silence", Resolution{Resolver: nameServer(t, func([]byte) []byte { return nil })}, "name.example.", nil, DNSTimeout},
		{"no address", Resolution{Resolver: nameServer(t, rcode(0))}, "name.example.", nil, DNSNotFound},
		{"no IPv6 address", Resolution{NoFallback: true, Resolver: only4}, "name.example.", nil, DNSNotFound},
		// To package net an answer without an IPv6 address, as /etc/hosts gives it too.
		{"IPv4 in the place of IPv6", Resolution{NoFallback: true, Resolver: nameServer(t, records("::ffff:192.0.2.1"))}, "name.example.", nil, DNSNotFound},
		{"IPv4 literal, IPv6 only", Resolution{NoFallback: true}, "192.0.2.1", nil, DNSNotFound},
		{"IPv6 literal, IPv4 only", Resolution{Prefer: IP4, NoFallback: true}, "2001:db8::1", nil, DNSNotFound},
		{"prefers IPv6", Resolution{Resolver: both}, "name.example.", []string{"2001:db8::1", "192.0.2.1", "192.0.2.2"}, Open},
		{"prefers IPv4", Resolution{Prefer: IP4, Resolver: both}, "name.example.", []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}, Open},
		{"IPv4 only", Resolution{Prefer: IP4, NoFallback: true, Resolver: both}, "name.example.", []string{"192.0.2.1", "192.0.2.2"}, Open},
		{"falls back", Resolution{Resolver: only4}, "name.example.", []string{"192.0.2.1"}, Open},
		{"literal", Resolution{}, "192.0.2.1", []string{"192.0.2.1"}, Open},
		{"IPv4 in IPv6", Resolution{}, "::ffff:192.0.2.1", []string{"192.0.2.1"}, Open},
		{"zone", Resolution{}, "fe80::1%lo", []string{"fe80::1%lo"}, Open},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			addrs, err := tc.resolution.lookUp(ctx, tc.host)
			var outcome Outcome
			if err != nil {
				outcome, _ = classifyLookup(err)
			}
			if outcome != tc.outcome {
				t.Errorf("got %s, want %s: %v", outcome, tc.outcome, err)
			}
			var got []string
			for _, addr := range addrs {
				got = append(got, addr.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestClassifyLookup(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want Outcome
	}{
		{"not of DNS", errors.New("no such host"), DNSError},
		{"no descriptors", errors.Join(&net.DNSError{}, syscall.EMFILE), LocalError},
		{"given up", &net.DNSError{UnwrapErr: context.Canceled}, NotRun},
		{"context ends", context.DeadlineExceeded, DNSTimeout},
		{"not found at last", &net.DNSError{IsNotFound: true, IsTemporary: true}, DNSNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, _ := classifyLookup(tc.err); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
