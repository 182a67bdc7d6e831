//go:build unix

package system

import "syscall"

// descriptors returns RLIMIT_NOFILE (getrlimit(2)).
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	n := uint64(limit.Cur) //nolint:unconvert // FreeBSD has it signed
	if n > 1<<62 {         // RLIM_INFINITY, by any definition
		return 0
	}
	return n
}
