package porttest

import (
	"context"
	"net"
	"net/netip"
	"testing"
)

// NameServer answers each query as answer makes of it, and returns a resolver
// that asks it.
func NameServer(t *testing.T, answer func(query []byte) []byte) *net.Resolver {
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

// RCode answers with a header that has a response code, and the question.
func RCode(code byte) func([]byte) []byte {
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

// Records answers A and AAAA questions with addresses.
func Records(addrs ...string) func([]byte) []byte {
	return func(query []byte) []byte {
		reply := RCode(0)(query)
		wantA := reply[len(reply)-3] == 1
		for _, text := range addrs {
			addr := netip.MustParseAddr(text)
			if addr.Is4() == wantA {
				reply[7]++
				reply = append(reply, 0xc0, 12) // the name is that of the question
				reply = append(reply, reply[len(RCode(0)(query))-4:len(RCode(0)(query))]...)
				reply = append(reply, 0, 0, 0, 60, 0, byte(addr.BitLen()/8))
				reply = append(reply, addr.AsSlice()...)
			}
		}
		return reply
	}
}
