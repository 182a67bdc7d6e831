package socket

import (
	"cmp"
	"iter"
	"strings"
)

// Kernel is the process of a listening socket that the kernel itself has: of a
// tunnel (VXLAN, WireGuard), of an MPTCP endpoint, of the NFS server. No process
// has that name.
const Kernel = "[kernel]"

// Owner is who holds a listening socket. A field that is empty is not known.
type Owner struct {
	// Process is the name of the process: see [ProcessName]. Of several processes
	// that share a socket it is the oldest.
	Process string
	// Comm is the name that the process has given itself, or the kernel has given
	// it (proc_pid_comm(5)). It may change at any time; it is for tables that people
	// read, never a label.
	Comm string
	// Executable is the path of its binary as the process sees it. It is for
	// rules, never a label.
	Executable string
	// Deleted says that the binary was removed or replaced on disk since the
	// process started.
	Deleted bool
	// User is the name of the user that the process runs as, or the number of one
	// without a name. It is empty where even the number is not known.
	User string
	// UserID is the number. It is for rules, never a label.
	UserID string
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
	o.Comm = ""
	o.UserID = "" // as User says
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
	// Workload is what runs in the network namespace of the listener; nil for our own.
	Workload *Workload
}

// Workload is what runs in a network namespace, as its runtime calls it. An empty field is
// not known, or not there.
type Workload struct {
	Runtime     string
	ContainerID string // of the oldest container in the namespace
	Container   string // its name
	PodUID      string
	Pod         string // its name
	Namespace   string // of Kubernetes
	// Hidden says that its processes may not be seen: anything may run there.
	Hidden bool
}

// ContainerName returns the name of the container that a listener is in, and whether it
// has one that could not be read. A pod has several, of which no name is known.
func (o *Owned) ContainerName() (name string, hidden bool) {
	w := o.Workload
	if w == nil || w.PodUID != "" || w.ContainerID == "" || !strings.HasSuffix(o.Owner.Container, "-"+w.ContainerID[:min(len(w.ContainerID), shortID)]) {
		return "", false
	}
	return w.Container, w.Container == "" && w.Runtime == "docker"
}

// shortID is how many digits of the id of a container stand in its name.
const shortID = 12
