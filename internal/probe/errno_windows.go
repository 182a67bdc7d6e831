package probe

import (
	"syscall"

	"golang.org/x/sys/windows"
)

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
