package probe

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// socketIDs returns the cookie of a socket (SO_COOKIE of socket(7)), which is
// that of sock_diag, and its inode, which is that of /proc/net/tcp.
func socketIDs(s syscall.Conn) []uint64 {
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	var ids []uint64
	_ = raw.Control(func(fd uintptr) {
		if cookie, err := unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE); err == nil {
			ids = append(ids, cookie)
		}
		var stat unix.Stat_t
		if err := unix.Fstat(int(fd), &stat); err == nil {
			ids = append(ids, stat.Ino)
		}
	})
	return ids
}
