//go:build unix

package dial

import (
	"syscall"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// outcomeOf says what an error of connect(2), read(2) or write(2) means.
func outcomeOf(e syscall.Errno) probe.Outcome {
	switch e {
	case syscall.ECONNREFUSED:
		return probe.Refused
	case syscall.ETIMEDOUT:
		return probe.Timeout
	case syscall.ECONNRESET, syscall.ECONNABORTED:
		return probe.Reset
	case syscall.EPIPE: // a reset behind the peer's FIN (tcp_reset in net/ipv4/tcp_input.c)
		return probe.Closed
	case syscall.EACCES, syscall.EPERM:
		return probe.Prohibited
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN,
		syscall.ENOPROTOOPT, // ICMP protocol unreachable
		syscall.EPROTO,      // ICMP parameter problem
		syscall.EINVAL:      // a local route of type blackhole
		return probe.Unreachable
	default:
		return probe.Unknown
	}
}
