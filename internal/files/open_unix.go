//go:build unix

package files

import "syscall"

// withoutWaiting has open(2) return immediately for a pipe that has no writer.
const withoutWaiting = syscall.O_NONBLOCK
