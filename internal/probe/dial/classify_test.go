//go:build linux

package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

func TestClassify(t *testing.T) {
	target := netip.MustParseAddr("192.0.2.1")
	router, us := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")
	v4 := func(kind, code uint8, from netip.Addr) Evidence {
		return Evidence{ICMP: probe.ICMPError{Offender: from, Type: kind, Code: code}, Target: target, Own: from == us, Sent: true}
	}
	v6 := func(kind, code uint8) Evidence {
		return Evidence{ICMP: probe.ICMPError{Offender: netip.MustParseAddr("2001:db8::1"), V6: true, Type: kind, Code: code},
			Target: netip.MustParseAddr("2001:db8::1%eth0"), Sent: true}
	}
	sent, unsent := Evidence{Target: target, Sent: true}, Evidence{Target: target}
	connect := func(e syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", e)}
	}
	for _, tc := range []struct {
		name    string
		err     error
		e       Evidence
		outcome probe.Outcome
		origin  probe.Origin
	}{
		{"nothing known", errors.New("connection refused"), sent, probe.Unknown, probe.OriginNone},
		{"not a known errno", connect(syscall.EXDEV), sent, probe.Unknown, probe.OriginNone},
		{"denied", fmt.Errorf("dial: %w", probe.Deny(errors.New("no"))), sent, probe.Denied, probe.OriginLocal},
		{"denied without descriptors", probe.Deny(syscall.EMFILE), sent, probe.Denied, probe.OriginLocal},
		{"given up", fmt.Errorf("dial: %w", context.Canceled), sent, probe.NotRun, probe.OriginLocal},
		{"no descriptors", connect(syscall.EMFILE), unsent, probe.LocalError, probe.OriginLocal},
		{"no ports for datagrams", connect(syscall.EAGAIN), unsent, probe.LocalError, probe.OriginLocal},
		{"no descriptors on the host", connect(syscall.ENFILE), unsent, probe.LocalError, probe.OriginLocal},
		{"no ports", connect(syscall.EADDRNOTAVAIL), unsent, probe.LocalError, probe.OriginLocal},
		{"no buffers", connect(syscall.ENOBUFS), sent, probe.LocalError, probe.OriginLocal},
		{"no IPv6", connect(syscall.EAFNOSUPPORT), unsent, probe.LocalError, probe.OriginLocal},

		{"context ends", context.DeadlineExceeded, sent, probe.Timeout, probe.OriginNone},
		{"socket's deadline", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, sent, probe.Timeout, probe.OriginNone},
		{"SYN retries used up", connect(syscall.ETIMEDOUT), sent, probe.Timeout, probe.OriginNone},
		{"RST to a SYN", connect(syscall.ECONNREFUSED), sent, probe.Refused, probe.OriginTarget},
		{"RST to the connection", connect(syscall.ECONNRESET), sent, probe.Reset, probe.OriginTarget},
		{"RST behind a FIN", connect(syscall.EPIPE), sent, probe.Closed, probe.OriginTarget},
		{"FIN", fmt.Errorf("read: %w", io.EOF), sent, probe.Closed, probe.OriginTarget},
		{"FIN in the middle", io.ErrUnexpectedEOF, sent, probe.Closed, probe.OriginTarget},

		{"no route here", connect(syscall.ENETUNREACH), unsent, probe.Unreachable, probe.OriginLocal},
		{"route blackhole", connect(syscall.EINVAL), unsent, probe.Unreachable, probe.OriginLocal},
		{"route prohibit", connect(syscall.EACCES), unsent, probe.Prohibited, probe.OriginLocal},
		{"OUTPUT DROP of a datagram", connect(syscall.EPERM), unsent, probe.Prohibited, probe.OriginLocal},
		{"unreachable, sender unknown", connect(syscall.EHOSTUNREACH), sent, probe.Unreachable, probe.OriginNone},
		{"prohibited, sender unknown", connect(syscall.EACCES), sent, probe.Prohibited, probe.OriginNone},

		{"port unreachable", connect(syscall.ECONNREFUSED), v4(3, 3, target), probe.Refused, probe.OriginTargetFirewall},
		{"port unreachable, router", connect(syscall.ECONNREFUSED), v4(3, 3, router), probe.Refused, probe.OriginNetwork},
		{"port unreachable, us", connect(syscall.ECONNREFUSED), v4(3, 3, us), probe.Refused, probe.OriginLocal},
		{"admin prohibited", connect(syscall.EHOSTUNREACH), v4(3, 13, router), probe.Prohibited, probe.OriginNetwork},
		{"network prohibited", connect(syscall.ENETUNREACH), v4(3, 9, router), probe.Prohibited, probe.OriginNetwork},
		{"host prohibited", connect(syscall.EHOSTUNREACH), v4(3, 10, target), probe.Prohibited, probe.OriginTargetFirewall},
		{"network unreachable", connect(syscall.ENETUNREACH), v4(3, 0, router), probe.Unreachable, probe.OriginNetwork},
		{"host unreachable, behind NAT", connect(syscall.EHOSTUNREACH), v4(3, 1, target), probe.Unreachable, probe.OriginNetwork},
		{"TTL exceeded, behind NAT", connect(syscall.EHOSTUNREACH), v4(11, 0, target), probe.Unreachable, probe.OriginNetwork},
		{"host unreachable", connect(syscall.EHOSTUNREACH), v4(3, 1, us), probe.Unreachable, probe.OriginLocal},
		{"protocol unreachable", connect(syscall.ENOPROTOOPT), v4(3, 2, target), probe.Unreachable, probe.OriginTargetFirewall},
		{"TTL exceeded", connect(syscall.EHOSTUNREACH), v4(11, 0, router), probe.Unreachable, probe.OriginNetwork},
		{"parameter problem", connect(syscall.EPROTO), v4(12, 0, router), probe.Unreachable, probe.OriginNetwork},
		{"code 3 of another type", connect(syscall.EPROTO), v4(11, 3, router), probe.Unreachable, probe.OriginNetwork},

		{"icmp6 no route", connect(syscall.ENETUNREACH), v6(1, 0), probe.Unreachable, probe.OriginNetwork},
		{"icmp6 prohibited", connect(syscall.EACCES), v6(1, 1), probe.Prohibited, probe.OriginTargetFirewall},
		{"icmp6 beyond scope", connect(syscall.EHOSTUNREACH), v6(1, 2), probe.Unreachable, probe.OriginTargetFirewall},
		{"icmp6 address unreachable", connect(syscall.EHOSTUNREACH), v6(1, 3), probe.Unreachable, probe.OriginNetwork},
		{"icmp6 port unreachable", connect(syscall.ECONNREFUSED), v6(1, 4), probe.Refused, probe.OriginTargetFirewall},
		{"icmp6 source address", connect(syscall.EACCES), v6(1, 5), probe.Prohibited, probe.OriginTargetFirewall},
		{"icmp6 reject route", connect(syscall.EACCES), v6(1, 6), probe.Prohibited, probe.OriginTargetFirewall},
		{"icmp6 time exceeded", connect(syscall.EHOSTUNREACH), v6(3, 0), probe.Unreachable, probe.OriginNetwork},
	} {
		t.Run(tc.name, func(t *testing.T) {
			outcome, origin := Classify(tc.err, tc.e)
			if outcome != tc.outcome || origin != tc.origin {
				t.Errorf("got %s (%s), want %s (%s)", outcome, origin, tc.outcome, tc.origin)
			}
		})
	}
}
