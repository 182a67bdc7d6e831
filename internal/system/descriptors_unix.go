//go:build unix

package system

import "syscall"

// descriptors returns RLIMIT_NOFILE (getrlimit(2)).
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > 1<<62 {
		return 0
	}
	return uint64(limit.Cur)
}
