//go:build !linux

package probe

import "syscall"

// socketIDs returns nothing: gopsutil gives sockets no identity.
func socketIDs(syscall.Conn) []uint64 { return nil }
