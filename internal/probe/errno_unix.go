//go:build unix

package probe

import "syscall"

// outcomeOf says what an error of connect(2), read(2) or write(2) means.
func outcomeOf(e syscall.Errno) Outcome {
	switch e {
	case syscall.ECONNREFUSED:
		return Refused
	case syscall.ETIMEDOUT:
		return Timeout
	case syscall.ECONNRESET, syscall.ECONNABORTED:
		return Reset
	case syscall.EPIPE: // a reset behind the peer's FIN (tcp_reset in net/ipv4/tcp_input.c)
		return Closed
	case syscall.EACCES, syscall.EPERM:
		return Prohibited
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN,
		syscall.ENOPROTOOPT, // ICMP protocol unreachable
		syscall.EPROTO,      // ICMP parameter problem
		syscall.EINVAL:      // a local route of type blackhole
		return Unreachable
	default:
		return Unknown
	}
}
