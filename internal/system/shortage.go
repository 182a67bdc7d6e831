package system

import (
	"errors"
	"slices"
	"syscall"
)

// IsShortage reports whether an error says that the host or this process is out of
// descriptors, buffers or memory, which may pass.
func IsShortage(err error) bool {
	short := []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN}
	return slices.ContainsFunc(short, func(one error) bool { return errors.Is(err, one) })
}
