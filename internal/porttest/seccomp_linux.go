package porttest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// WithoutNetlink is the main function of a command that runs its arguments as
// a program that cannot open netlink sockets, as under a seccomp filter or
// systemd's RestrictAddressFamilies=: socket(2) says EAFNOSUPPORT.
func WithoutNetlink() {
	runtime.LockOSThread() // the filter is the thread's, and exec keeps it
	if err := denyNetlink(); err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(1)
	}
	path, err := exec.LookPath(os.Args[1])
	if err == nil {
		err = unix.Exec(path, os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "exec:", err)
	os.Exit(1)
}

// denyNetlink installs a filter of six instructions: is it socket(2), is its
// first argument AF_NETLINK? Byte order and offsets are those of struct
// seccomp_data on a little-endian machine.
func denyNetlink() error {
	const (
		load      = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		verdict   = unix.BPF_RET | unix.BPF_K
		number    = 0  // offsetof(struct seccomp_data, nr)
		argument  = 16 // offsetof(struct seccomp_data, args[0])
	)
	filter := []unix.SockFilter{
		{Code: load, K: number},
		{Code: jumpEqual, K: uint32(unix.SYS_SOCKET), Jf: 3},
		{Code: load, K: argument},
		{Code: jumpEqual, K: unix.AF_NETLINK, Jf: 1},
		{Code: verdict, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: verdict, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
