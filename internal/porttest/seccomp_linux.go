package porttest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of struct seccomp_data on a little-endian machine, and of its instructions.
const (
	callNumber    = 0  // offsetof(struct seccomp_data, nr)
	firstArgument = 16 // offsetof(struct seccomp_data, args[0])

	load      = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	verdict   = unix.BPF_RET | unix.BPF_K
)

// WithoutNetlink is the main function of a command that runs its arguments as
// a program that cannot open netlink sockets, as under a seccomp filter or
// systemd's RestrictAddressFamilies=: socket(2) says EAFNOSUPPORT.
func WithoutNetlink() {
	// Is it socket(2), is its first argument AF_NETLINK?
	execFiltered(os.Args[1:], []unix.SockFilter{
		{Code: load, K: callNumber},
		{Code: jumpEqual, K: uint32(unix.SYS_SOCKET), Jf: 3},
		{Code: load, K: firstArgument},
		{Code: jumpEqual, K: unix.AF_NETLINK, Jf: 1},
		{Code: verdict, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: verdict, K: unix.SECCOMP_RET_ALLOW},
	})
}

// WithCalls is the main function of a command that runs its arguments as a
// program that has only the system calls of the first one, numbers with commas
// between them. Any other fails with EPERM, as under systemd's SystemCallFilter=.
func WithCalls() {
	filter := []unix.SockFilter{{Code: load, K: callNumber}}
	for word := range strings.SplitSeq(os.Args[1], ",") {
		number, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			fail(err)
		}
		filter = append(filter,
			unix.SockFilter{Code: jumpEqual, K: uint32(number), Jf: 1},
			unix.SockFilter{Code: verdict, K: unix.SECCOMP_RET_ALLOW})
	}
	execFiltered(os.Args[2:], append(filter, unix.SockFilter{Code: verdict, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}))
}

func execFiltered(command []string, filter []unix.SockFilter) {
	runtime.LockOSThread() // the filter is the thread's, and exec keeps it
	path, err := exec.LookPath(command[0])
	if err != nil {
		fail(err)
	}
	if err := install(filter); err != nil {
		fail(fmt.Errorf("seccomp: %w", err))
	}
	fail(unix.Exec(path, command, os.Environ()))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func install(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
