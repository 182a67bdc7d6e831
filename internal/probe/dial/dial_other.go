//go:build !linux

package dial

import (
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// namesOffenders is false where there is no error queue to read: an error may
// or may not have come by ICMP, and the sender is unknown.
const namesOffenders = false

func KeepErrors(uintptr, bool) error { return nil }

func ignoreErrors(uintptr, bool) error { return nil }

func BindLate(uintptr) error { return nil }

func BindToDevice(uintptr, string, netip.Addr) error { return nil }

func forbidBroadcast(uintptr) error { return nil }

func ReadError(uintptr) (probe.ICMPError, bool) { return probe.ICMPError{}, false }

func ReadHandshake(uintptr) (Handshake, bool) { return Handshake{}, false }

func duplicate(uintptr) (int, error) { return -1, nil }

func closeDescriptor(int) {}
