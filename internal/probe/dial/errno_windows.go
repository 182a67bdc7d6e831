package dial

import (
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// outcomeOf says what an error of a socket means.
func outcomeOf(e syscall.Errno) probe.Outcome {
	switch e {
	case windows.WSAECONNREFUSED:
		return probe.Refused
	case windows.WSAETIMEDOUT, windows.WSAEWOULDBLOCK:
		return probe.Timeout
	case windows.WSAECONNRESET, windows.WSAECONNABORTED:
		return probe.Reset
	case windows.WSAESHUTDOWN:
		return probe.Closed
	case windows.WSAEACCES:
		return probe.Prohibited
	case windows.WSAEHOSTUNREACH, windows.WSAENETUNREACH, windows.WSAEHOSTDOWN, windows.WSAENETDOWN, windows.WSAENOPROTOOPT:
		return probe.Unreachable
	default:
		return probe.Unknown
	}
}
