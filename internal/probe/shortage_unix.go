//go:build unix

package probe

import "syscall"

// IsNoPort reports whether an error says that no ephemeral port is left towards the
// target. connect(2) says EADDRNOTAVAIL also where this host has no IPv6 address.
func IsNoPort(e syscall.Errno) bool {
	return e == syscall.EADDRNOTAVAIL || e == syscall.EADDRINUSE || e == syscall.EAGAIN
}

// IsShortage reports whether an error says that this host lacks what a probe
// takes: descriptors, ports, memory, an address family. Where no port is left,
// bind(2) says EADDRINUSE, connect(2) EADDRNOTAVAIL over TCP, and EAGAIN over UDP
// (inet_autobind in net/ipv4/af_inet.c).
func IsShortage(e syscall.Errno) bool {
	switch e {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE,
		syscall.EAGAIN, syscall.EAFNOSUPPORT:
		return true
	default:
		return false
	}
}
