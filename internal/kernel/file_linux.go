package kernel

import (
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// AppendFile appends a file of procfs to buf.
//
// Such a file never makes its reader wait, so it is not handed to the poller of the
// runtime, and its size is 0. That saves half of the system calls of [os.ReadFile], or
// more: a scrape reads some twenty files.
func AppendFile(buf []byte, path string) ([]byte, error) {
	fd, err := again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return buf, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		const usual = 4 << 10
		buf = slices.Grow(buf, usual)
		n, err := again(func() (int, error) { return unix.Read(fd, buf[len(buf):cap(buf)]) })
		if err != nil {
			return buf, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}

// again repeats a system call that a signal interrupted: a procfs of FUSE lets it.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
