//go:build unix

package probe

import "syscall"

// isShortage reports whether an error says that this host lacks what a probe
// takes: descriptors, ports, memory, an address family. Where no port is left,
// bind(2) says EADDRINUSE, connect(2) EADDRNOTAVAIL over TCP, and EAGAIN over UDP
// (inet_autobind in net/ipv4/af_inet.c).
func isShortage(e syscall.Errno) bool {
	switch e {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE,
		syscall.EAGAIN, syscall.EAFNOSUPPORT:
		return true
	default:
		return false
	}
}

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
