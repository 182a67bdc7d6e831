package probe

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// isShortage reports whether an error says that this host lacks what a probe
// takes: descriptors, ports, memory, an address family.
func isShortage(e syscall.Errno) bool {
	switch e {
	case windows.WSAEMFILE, windows.WSAENOBUFS, windows.WSAEADDRNOTAVAIL, windows.WSAEADDRINUSE, windows.WSAEAFNOSUPPORT:
		return true
	default:
		return false
	}
}

// outcomeOf says what an error of a socket means.
func outcomeOf(e syscall.Errno) Outcome {
	switch e {
	case windows.WSAECONNREFUSED:
		return Refused
	case windows.WSAETIMEDOUT, windows.WSAEWOULDBLOCK:
		return Timeout
	case windows.WSAECONNRESET, windows.WSAECONNABORTED:
		return Reset
	case windows.WSAESHUTDOWN:
		return Closed
	case windows.WSAEACCES:
		return Prohibited
	case windows.WSAEHOSTUNREACH, windows.WSAENETUNREACH, windows.WSAEHOSTDOWN, windows.WSAENETDOWN, windows.WSAENOPROTOOPT:
		return Unreachable
	default:
		return Unknown
	}
}
