//go:build !linux

package dial

import (
	"context"
	"errors"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// namesOffenders is false where there is no error queue to read: an error may
// or may not have come by ICMP, and the sender is unknown.
const namesOffenders = false

func KeepErrors(uintptr, bool) error { return nil }

func ignoreErrors(uintptr, bool) error { return nil }

func BindLate(uintptr) error { return nil }

func BindToDevice(probe.Netns, uintptr, string, netip.Addr) error { return nil }

func move(ctx context.Context, _ uintptr) error {
	if probe.NetnsOf(ctx) == nil {
		return nil
	}
	return errors.ErrUnsupported
}

func interfaceIndex(string) (int, error) { return 0, errors.ErrUnsupported }

func forbidBroadcast(uintptr) error { return nil }

func ReadError(uintptr) (probe.ICMPError, bool) { return probe.ICMPError{}, false }

func ReadHandshake(uintptr) (Handshake, bool) { return Handshake{}, false }

func duplicate(uintptr) (int, error) { return -1, nil }

func closeDescriptor(int) {}
