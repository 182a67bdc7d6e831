package owner

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The first namespaces of the system (PROC_PID_INIT_INO and PROC_USER_INIT_INO,
// include/linux/proc_ns.h).
const (
	initialPIDNamespace  = "pid:[4026531836]"
	initialUserNamespace = "user:[4026531837]"
)

// Missing implements [Processes]. Either of two capabilities is not enough, and those
// of another user namespace are none. A security module is named where nothing else
// explains that the last search was denied something.
func (h *linuxHost) Missing() []string {
	var missing []string
	elsewhere := h.inUserNamespace()
	for _, privilege := range []struct {
		name string
		has  bool
	}{
		{CapSysPtrace, !elsewhere && HasCapability(unix.CAP_SYS_PTRACE)},
		{CapDacReadSearch, !elsewhere && (HasCapability(unix.CAP_DAC_READ_SEARCH) || HasCapability(unix.CAP_DAC_OVERRIDE))},
		{PIDNamespace, !h.inPIDNamespace()},
		{UserNamespace, !elsewhere},
	} {
		if !privilege.has {
			missing = append(missing, privilege.name)
		}
	}
	if len(missing) == 0 && h.forbidden.Load() {
		missing = append(missing, SecurityModule)
	}
	return missing
}

// HasCapability reports whether this process has a capability. One that cannot be
// asked for is not missed.
func HasCapability(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

// inPIDNamespace reports whether /proc shows only the processes of a pid namespace
// that is not the first one. Whose /proc it is, its first process says, which takes
// a privilege; else this process, which has a number in each namespace up to that
// of /proc (NSpid, proc_pid_status(5)).
func (h *linuxHost) inPIDNamespace() bool {
	if first, err := os.Readlink(h.path(initPID, "ns/pid")); err == nil {
		return first != h.everyProcess
	}
	own, err := os.Readlink(filepath.Join(h.procfs, "self/ns/pid"))
	if err != nil || own == h.everyProcess {
		return false
	}
	status, err := os.ReadFile(filepath.Join(h.procfs, "self/status"))
	return err == nil && namespaceDepth(string(status)) == 1
}

// namespaceDepth returns how many numbers a process has.
func namespaceDepth(status string) int {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(rest))
		}
	}
	return 0
}

// inUserNamespace reports whether this process is in a user namespace that is not
// the first one: its capabilities do not count outside, and the ids of others are
// not what they are.
func (h *linuxHost) inUserNamespace() bool {
	if own, err := os.Readlink(filepath.Join(h.procfs, "self/ns/user")); err == nil && own != initialUserNamespace {
		return true
	}
	const everyone = "0 0 4294967295"
	ids, err := os.ReadFile(filepath.Join(h.procfs, "self/uid_map"))
	return err == nil && strings.Join(strings.Fields(string(ids)), " ") != everyone
}
