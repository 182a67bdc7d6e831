//go:build linux

package probe

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
)

func TestClassify(t *testing.T) {
	target := netip.MustParseAddr("192.0.2.1")
	router, us := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")
	v4 := func(kind, code uint8, from netip.Addr) evidence {
		return evidence{icmp: icmpError{offender: from, kind: kind, code: code}, target: target, own: from == us, sent: true}
	}
	v6 := func(kind, code uint8) evidence {
		return evidence{icmp: icmpError{offender: netip.MustParseAddr("2001:db8::1"), v6: true, kind: kind, code: code},
			target: netip.MustParseAddr("2001:db8::1%eth0"), sent: true}
	}
	sent, unsent := evidence{target: target, sent: true}, evidence{target: target}
	connect := func(e syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", e)}
	}
	for _, tc := range []struct {
		name    string
		err     error
		e       evidence
		outcome Outcome
		origin  Origin
	}{
		{"nothing known", errors.New("connection refused"), sent, Unknown, OriginNone},
		{"not a known errno", connect(syscall.EXDEV), sent, Unknown, OriginNone},
		{"denied", fmt.Errorf("dial: %w", Deny(errors.New("no"))), sent, Denied, OriginLocal},
		{"denied for want of descriptors", Deny(syscall.EMFILE), sent, Denied, OriginLocal},
		{"given up", fmt.Errorf("dial: %w", context.Canceled), sent, NotRun, OriginLocal},
		{"no descriptors", connect(syscall.EMFILE), unsent, LocalError, OriginLocal},
		{"no ports for datagrams", connect(syscall.EAGAIN), unsent, LocalError, OriginLocal},
		{"no descriptors on the host", connect(syscall.ENFILE), unsent, LocalError, OriginLocal},
		{"no ports", connect(syscall.EADDRNOTAVAIL), unsent, LocalError, OriginLocal},
		{"no buffers", connect(syscall.ENOBUFS), sent, LocalError, OriginLocal},
		{"no IPv6", connect(syscall.EAFNOSUPPORT), unsent, LocalError, OriginLocal},

		{"context ends", context.DeadlineExceeded, sent, Timeout, OriginNone},
		{"socket's deadline", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, sent, Timeout, OriginNone},
		{"SYN retries used up", connect(syscall.ETIMEDOUT), sent, Timeout, OriginNone},
		{"RST to a SYN", connect(syscall.ECONNREFUSED), sent, Refused, OriginTarget},
		{"RST to the connection", connect(syscall.ECONNRESET), sent, Reset, OriginTarget},
		{"RST behind a FIN", connect(syscall.EPIPE), sent, Closed, OriginTarget},
		{"FIN", fmt.Errorf("read: %w", io.EOF), sent, Closed, OriginTarget},
		{"FIN in the middle", io.ErrUnexpectedEOF, sent, Closed, OriginTarget},

		{"no route here", connect(syscall.ENETUNREACH), unsent, Unreachable, OriginLocal},
		{"route blackhole", connect(syscall.EINVAL), unsent, Unreachable, OriginLocal},
		{"route prohibit", connect(syscall.EACCES), unsent, Prohibited, OriginLocal},
		{"OUTPUT DROP of a datagram", connect(syscall.EPERM), unsent, Prohibited, OriginLocal},
		{"unreachable, nobody says who", connect(syscall.EHOSTUNREACH), sent, Unreachable, OriginNone},
		{"prohibited, nobody says who", connect(syscall.EACCES), sent, Prohibited, OriginNone},

		{"port unreachable", connect(syscall.ECONNREFUSED), v4(3, 3, target), Refused, OriginTargetFirewall},
		{"port unreachable, router", connect(syscall.ECONNREFUSED), v4(3, 3, router), Refused, OriginNetwork},
		{"port unreachable, us", connect(syscall.ECONNREFUSED), v4(3, 3, us), Refused, OriginLocal},
		{"admin prohibited", connect(syscall.EHOSTUNREACH), v4(3, 13, router), Prohibited, OriginNetwork},
		{"network prohibited", connect(syscall.ENETUNREACH), v4(3, 9, router), Prohibited, OriginNetwork},
		{"host prohibited", connect(syscall.EHOSTUNREACH), v4(3, 10, target), Prohibited, OriginTargetFirewall},
		{"network unreachable", connect(syscall.ENETUNREACH), v4(3, 0, router), Unreachable, OriginNetwork},
		{"host unreachable, behind NAT", connect(syscall.EHOSTUNREACH), v4(3, 1, target), Unreachable, OriginNetwork},
		{"TTL exceeded, behind NAT", connect(syscall.EHOSTUNREACH), v4(11, 0, target), Unreachable, OriginNetwork},
		{"host unreachable", connect(syscall.EHOSTUNREACH), v4(3, 1, us), Unreachable, OriginLocal},
		{"protocol unreachable", connect(syscall.ENOPROTOOPT), v4(3, 2, target), Unreachable, OriginTargetFirewall},
		{"TTL exceeded", connect(syscall.EHOSTUNREACH), v4(11, 0, router), Unreachable, OriginNetwork},
		{"parameter problem", connect(syscall.EPROTO), v4(12, 0, router), Unreachable, OriginNetwork},
		{"code 3 of another type", connect(syscall.EPROTO), v4(11, 3, router), Unreachable, OriginNetwork},

		{"icmp6 no route", connect(syscall.ENETUNREACH), v6(1, 0), Unreachable, OriginNetwork},
		{"icmp6 prohibited", connect(syscall.EACCES), v6(1, 1), Prohibited, OriginTargetFirewall},
		{"icmp6 beyond scope", connect(syscall.EHOSTUNREACH), v6(1, 2), Unreachable, OriginTargetFirewall},
		{"icmp6 address unreachable", connect(syscall.EHOSTUNREACH), v6(1, 3), Unreachable, OriginNetwork},
		{"icmp6 port unreachable", connect(syscall.ECONNREFUSED), v6(1, 4), Refused, OriginTargetFirewall},
		{"icmp6 source address", connect(syscall.EACCES), v6(1, 5), Prohibited, OriginTargetFirewall},
		{"icmp6 reject route", connect(syscall.EACCES), v6(1, 6), Prohibited, OriginTargetFirewall},
		{"icmp6 time exceeded", connect(syscall.EHOSTUNREACH), v6(3, 0), Unreachable, OriginNetwork},
	} {
		t.Run(tc.name, func(t *testing.T) {
			outcome, origin := classify(tc.err, tc.e)
			if outcome != tc.outcome || origin != tc.origin {
				t.Errorf("got %s (%s), want %s (%s)", outcome, origin, tc.outcome, tc.origin)
			}
		})
	}
}
