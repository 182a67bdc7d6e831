// Package system chooses how the host is read: it is the one place that knows
// which operating system this is.
package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/port-exporter/port_exporter/internal/bpfwalk"
	"github.com/port-exporter/port_exporter/internal/closed"
	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// The names of the sources, as --source and port_source_info have them.
const (
	Auto     = "auto"
	SockDiag = "sock_diag"
	BPF      = "bpf"
	ProcFS   = "procfs"
	GopsUtil = "gopsutil"
)

// SourceNames returns every value of --source.
func SourceNames() []string { return []string{Auto, SockDiag, BPF, ProcFS, GopsUtil} }

// System is a host that can be read.
type System struct {
	// Source reads the sockets, and Name says which of them it is.
	Source socket.Source
	Name   string
	bpf    *bpfwalk.Engine // of Source; nil if it is another
	// Own are the listeners of this process, which Source has to show.
	Own *Own
	// Protocols are those that Source can read.
	Protocols []socket.Protocol
	// Fallback says why Name is not the source that was asked for, or by default the
	// best of this system: nil if it is.
	Fallback error
	// Owners finds the owners of listeners.
	Owners *owner.Finder
	// Portless reads raw sockets, packet sockets and vsock listeners. Beside
	// an error it returns what it could read. It is nil where that is unknown.
	Portless func(ctx context.Context) (socket.PortlessTable, error)
	// PortlessOwners finds their owners, in a memory of its own.
	PortlessOwners *owner.Finder
	// Unix reads the unix listeners, and UnixOwners finds their owners, likewise. A
	// table without them means that this host does not report them.
	Unix       func(ctx context.Context) (socket.PortlessTable, error)
	UnixOwners *owner.Finder
	// Groups names the cgroups that made sockets; nil where there is no cgroup v2.
	Groups func(ctx context.Context, ids []uint64) map[uint64]owner.Group
	// KernelStats reads the kernel's limits and counters; nil where there are
	// none that are known.
	KernelStats func() (*kernel.Stats, error)
	// Firewall reads the rules of nftables; nil where there are none that are known. Its
	// error may be [firewall.ErrPrivilege].
	Firewall func(ctx context.Context) (*firewall.Ruleset, error)
	// ForeignFirewall reads those of the network namespace of the thread, and keeps nothing.
	ForeignFirewall func(ctx context.Context) (*firewall.Ruleset, error)
	// Closings receives what the kernel reports of TCP sockets that it frees. The error
	// is errors.ErrUnsupported where it reports nothing.
	Closings func() (closed.Stream, error)
	// EphemeralPorts reads the ports that clients get. Beside an error it returns
	// what it could read of them, else the system's default.
	EphemeralPorts func() (socket.EphemeralPorts, error)
	// Arguments reads the command line of a process; nil where that is not known.
	Arguments func(ctx context.Context, pid int32) []string
	// Namespaces reads the other network namespaces, and NamespaceOwners finds the owners
	// of their listeners. Nil where they cannot be read: without sock_diag and bpf.
	Namespaces      Namespaces
	NamespaceOwners *owner.Finder
	// Netns returns the network namespace of a name, which is looked for when it is first
	// used.
	Netns func(name string) Netns
	// Addresses reads the addresses of this host, each with the name of the
	// device that has it; empty if unknown.
	Addresses func() (map[netip.Addr]string, error)
	// AddressKinds says what addresses are to this host; nil where that is unknown.
	AddressKinds func([]netip.Addr) map[netip.Addr]socket.AddressKind
	// Descriptors is how many file descriptors this process may have open; zero
	// if it is unlimited or unknown. Go raises the soft limit to
	// the hard one as it starts (os/rlimit.go).
	Descriptors func() uint64
}

// Namespaces reads the network namespaces of a host but our own.
type Namespaces interface {
	Read(ctx context.Context) (netns.Found, error)
	// Missing returns the privileges without which some of them cannot be read.
	Missing() []string
}

// Netns is a network namespace of the host by its name.
type Netns interface {
	probe.Netns
	// Ask is Do for what asks the kernel something that may take long.
	Ask(ctx context.Context, f func() error) error
	// Source reads the sockets of the namespace, for as long as ctx lasts. Its error is
	// errors.ErrUnsupported where they cannot be read.
	Source(ctx context.Context) socket.Source
	// Name is the value of the label netns; empty as long as the namespace was not found.
	Name() string
}

// openPatience is how long a source is waited for as it is opened: one that does not
// answer then will not later.
const openPatience = 5 * time.Second

// Open returns this host, read through the named source, with procfs at the
// given place, and the host's root at another, for the names of users (both Linux
// only); empty is a root that is found out. What panics beside the caller is logged.
// The error is errors.ErrUnsupported for a source that this system does not have.
func Open(ctx context.Context, source, procfs, rootfs string, logger *slog.Logger) (*System, error) {
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	s, err := open(ctx, source, procfs)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", source, err)
	}
	if err := seesItself(ctx, s.Source); err != nil {
		return nil, fmt.Errorf("source %s: %w", s.Name, err)
	}
	s.Netns = entrances(procfs, rootfs)
	s.Namespaces = namespaces(s, source, procfs, rootfs, logger)
	s.Own = new(Own)
	s.Source = ownSource{s.Source, s.Own}
	s.Owners = owner.New(owner.NewProcesses(procfs, rootfs, logger), logger)
	s.PortlessOwners = owner.New(owner.NewProcesses(procfs, rootfs, logger), logger)
	s.UnixOwners = owner.New(owner.NewProcesses(procfs, rootfs, logger), logger)
	s.NamespaceOwners = owner.New(owner.NewProcesses(procfs, rootfs, logger), logger)
	if groups := owner.NewGroups(procfs, logger); groups != nil {
		s.Groups = groups.Of
	}
	s.Addresses, s.Descriptors, s.Closings = addresses, descriptors, closings
	return s, nil
}

// errBlind is about a source that answers without an error, but not with what is
// there.
var errBlind = errors.New("port_exporter's own listening socket is missing from the socket table\n" +
	"hint: /proc may be emulated or of another network namespace, or a sandbox hides sockets; see --path.procfs and --source")

// seesItself listens on a loopback address for a moment, and returns errBlind if
// that socket is not in the source: then nothing that the source says, or does not
// say, can be believed. Without a socket that is unknown.
func seesItself(ctx context.Context, source socket.Source) error {
	witness, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil
	}
	defer witness.Close()
	own := witness.Addr().(*net.TCPAddr).AddrPort()
	rows := func() (found bool, err error) {
		for s, err := range source.Sockets(ctx, 1<<socket.Listen) {
			if err != nil && !errors.Is(err, socket.ErrMalformed) && !errors.Is(err, socket.ErrInterrupted) {
				return false, err
			}
			found = found || err == nil && s.Local == own
		}
		return found, nil
	}
	found, err := socket.Twice(rows)
	if err != nil {
		return err
	}
	if !found {
		return errBlind
	}
	return nil
}

// Reader returns what reads the listeners of this host.
func (s *System) Reader() socket.Reader {
	return socket.Reader{Source: s.Source, EphemeralPorts: s.EphemeralPorts, Kinds: s.AddressKinds}
}
