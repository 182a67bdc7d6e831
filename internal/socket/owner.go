package socket

import (
	"cmp"
	"iter"
	"path"
)

// Kernel is the process of a listening socket that the kernel itself has: of a
// tunnel (VXLAN, WireGuard), of an MPTCP endpoint, of the NFS server. No process
// has that name.
const Kernel = "[kernel]"

// Owner is who holds a listening socket. A field that is empty is not known.
type Owner struct {
	// Process is the name of the process: the kernel's (comm, proc_pid_comm(5)),
	// or the base name of the executable where comm is that cut to 15 bytes. Of
	// several processes that share a socket it is the oldest.
	Process string
	// Executable is the path of its binary as the process sees it. It is for
	// rules, never a label.
	Executable string
	// Deleted says that the binary was removed or replaced on disk since the
	// process started.
	Deleted bool
	// User is the name (or number) of the user that the process runs as.
	User string
	// Unit is the systemd unit of the host: nginx.service, or cups.socket for a
	// socket that systemd opened. A container's own scope is none.
	Unit string
	// Container names the innermost container by its runtime and the first 12
	// digits of its id, docker-0123456789ab, or by its name, lxc-web; in a
	// Kubernetes pod after the pod's uid: pod<uid>/containerd-0123456789ab.
	Container string
	// PID is for tables that people read, never a label.
	PID int32
	// Pending says that the owner is not known now, and may be at a later read: a
	// search or the name of a user did not come in time. No verdict may rest on what
	// is empty in it.
	Pending bool
}

// Identity returns the owner without what changes when the service restarts,
// so that owners can be compared.
func (o Owner) Identity() Owner {
	o.PID = 0
	o.Deleted = false
	return o
}

// Compare orders owners by name.
func (o Owner) Compare(other Owner) int {
	return cmp.Or(
		cmp.Compare(o.Process, other.Process),
		cmp.Compare(o.User, other.User),
		cmp.Compare(o.Unit, other.Unit),
		cmp.Compare(o.Container, other.Container),
		cmp.Compare(o.Executable, other.Executable),
	)
}

// ProcessName returns the name of a process from its comm, which the kernel
// cuts to 15 bytes (TASK_COMM_LEN), and its executable: a comm that was cut is
// completed, and one that the process emptied is replaced.
func ProcessName(comm, executable string) string {
	const cut = 15
	if comm == "" && executable == "" {
		return "?"
	}
	base := path.Base(executable)
	if comm == "" {
		return base
	}
	if len(comm) == cut && len(base) > cut && base[:cut] == comm {
		return base
	}
	return comm
}

// Groups yields the runs of neighbours that have the same key.
func Groups[K comparable](owned []Owned, key func(*Owned) K) iter.Seq[[]Owned] {
	return func(yield func([]Owned) bool) {
		for len(owned) > 0 {
			first, end := key(&owned[0]), 1
			for end < len(owned) && key(&owned[end]) == first {
				end++
			}
			if !yield(owned[:end]) {
				return
			}
			owned = owned[end:]
		}
	}
}

// Owned is a listener in the hands of one owner. A group that several programs
// share (SO_REUSEPORT) is as many Owned.
type Owned struct {
	Listener
	Owner Owner
}
