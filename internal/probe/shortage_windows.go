package probe

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// IsShortage reports whether an error says that this host lacks what a probe
// takes: descriptors, ports, memory, an address family.
func IsShortage(e syscall.Errno) bool {
	switch e {
	case windows.WSAEMFILE, windows.WSAENOBUFS, windows.WSAEADDRNOTAVAIL, windows.WSAEADDRINUSE, windows.WSAEAFNOSUPPORT:
		return true
	default:
		return false
	}
}

// IsNoPort reports whether an error says that no ephemeral port is left towards the
// target.
func IsNoPort(e syscall.Errno) bool {
	return e == windows.WSAEADDRNOTAVAIL || e == windows.WSAEADDRINUSE
}
