// Package netns finds the network namespaces of a host, names them, and reads their
// sockets. It keeps nothing that would keep a namespace alive: no descriptor of one,
// no socket in one, no file of /proc/<pid>/net.
package netns

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Depth is how far the sockets of a namespace may be read now.
type Depth uint8

// String returns the depth as it stands in labels.
func (d Depth) String() string {
	switch d {
	case Full:
		return "full"
	case Listeners:
		return "listeners"
	case Unread:
		return "none"
	default:
		return "empty"
	}
}

// The depths.
const (
	// Empty is a namespace without TCP and UDP sockets.
	Empty Depth = iota
	// Unread is one that has sockets, or may have some, and is not read.
	Unread
	// Listeners is one of which [socket.Listening] may be read.
	Listeners
	// Full is one of which [socket.Connections] may be read as well.
	Full
)

// Sockets are the sockets of one namespace, as an engine has read or will read them.
type Sockets struct {
	// Cookie identifies the namespace (SO_NETNS_COOKIE, net_cookie of struct net).
	Cookie uint64
	// Inode is that of nsfs. The kernel gives the inode of a namespace that is gone to
	// the next one: it is no identity.
	Inode uint64
	Depth Depth
	// Source reads the sockets, once or several times, by one goroutine at a time. It
	// is valid as long as the context of the read is, and nil where Depth says that
	// there is nothing to read. Its error is [ErrGone] if the namespace is gone.
	Source socket.Source
	// Err says why a namespace is [Unread], if it may not be entered.
	Err error
}

// Engine finds the namespaces of a host and reads their sockets. It is safe for
// concurrent use.
type Engine interface {
	// Name is a value of the label source: sock_diag, bpf.
	Name() string
	// Read returns the namespaces in any order; our own may be among them. Namespaces
	// that appear or go meanwhile may be missing. Places looks for namespaces in /proc when
	// it is called first, for an engine that cannot find them itself.
	Read(ctx context.Context, places func() Places) ([]Sockets, error)
}

// Found are the namespaces of a host but our own, as one read found them.
type Found struct {
	// Engine has read them, and NotBPF says why it is not bpf: nil if it is, or was not
	// to be.
	Engine string
	NotBPF error
	// Namespaces have TCP or UDP sockets that can be read, sorted by name. Those of the
	// same name are one.
	Namespaces []Namespace
	// Closed may not be entered, but the files of a process in them show their sockets. To
	// read these is slow: for a few on request.
	Closed []Namespace
	// Depths counts all namespaces, each of its own.
	Depths Depths
}

// Depths are how many namespaces are read how far.
type Depths [Full + 1]int

// Lower notes that those of a name could be read less far than was foreseen.
func (d *Depths) Lower(n *Namespace, to Depth) {
	d[n.Depth] -= n.Count
	d[to] += n.Count
}

// Namespace is a namespace, or several with the same name.
type Namespace struct {
	Identity
	// Depth is that of all of them, and Count how many there are of this depth.
	Depth  Depth
	Count  int
	Source socket.Source
	// EphemeralPorts reads the ports that clients get in it. Beside an error it returns
	// what it could read of them, else the default.
	EphemeralPorts func(ctx context.Context) (socket.EphemeralPorts, error)
	// Addresses reads the addresses that it has, loopback and link-local ones left out. It
	// returns nil if they cannot be read, and is nil where that is not known.
	Addresses func(ctx context.Context) []netip.Addr
	// Limits reads the limits that it has of its own, as [kernel.ReadLimits]; nil of several
	// namespaces.
	Limits func(ctx context.Context) (*kernel.Stats, error)
}

// Reader returns what reads the listeners of the namespace, as long as ctx lasts.
func (n *Namespace) Reader(ctx context.Context) socket.Reader {
	return socket.Reader{
		Source:         n.Source,
		Netns:          n.Name,
		EphemeralPorts: func() (socket.EphemeralPorts, error) { return n.EphemeralPorts(ctx) },
	}
}

// add notes another of the same name.
func (n *Namespace) add(depth Depth) {
	switch {
	case depth < n.Depth:
		n.Depth, n.Count = depth, 1
	case depth == n.Depth:
		n.Count++
	}
}

// joined reads several namespaces as one. One that is gone has no sockets.
type joined []socket.Source

// Sockets implements [socket.Source].
func (j joined) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		for _, source := range j {
			for s, err := range source.Sockets(ctx, want) {
				if errors.Is(err, ErrGone) {
					break
				}
				if !yield(s, err) {
					return
				}
			}
		}
	}
}

// CapSysAdmin enters other network namespaces (setns(2)).
const CapSysAdmin = "CAP_SYS_ADMIN"

// ErrGone is about a namespace that is gone.
var ErrGone = errors.New("network namespace is gone")

// Places are where namespaces can be entered, by inode.
type Places map[uint64]Place

// Place is where one namespace was found.
type Place struct {
	// PIDs are processes in it, in the order of /proc.
	PIDs []int32
	// Mounts are where it is mounted.
	Mounts []Mount
}

// Mount is a path at which a namespace is mounted, /run/netns/blue, and the root below
// which that is; an empty root is ours.
type Mount struct{ Path, Root string }
