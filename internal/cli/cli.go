// Package cli holds the commands that look once and end: listeners, baseline and
// check.
package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/published"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
)

// ExitError ends the program with a status of its own. Its message, if any, is
// for standard error.
type ExitError struct {
	Code    int
	Message string
}

func (e *ExitError) Error() string { return e.Message }

// The statuses of the commands, as of grep(1): 1 says that there is a finding,
// 2 that the command could not do its work. 3 says that it could not read all that
// it was to judge, and found nothing else.
const (
	statusFinding    = 1
	statusFailure    = 2
	statusUnverified = 3
)

// failure makes an error of a command one that ends with status 2.
func failure(err error) error { return &ExitError{Code: statusFailure, Message: err.Error()} }

// Command is what a command works with: this host, its configuration, and where it writes.
type Command struct {
	System     *system.System // not needed for a saved table
	Config     *config.Config
	ConfigFile string
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	Version    string    // of the program
	Now        time.Time // at which policies are to hold; zero is the present
	// Wait is how long UDP sockets are watched before they are called listeners.
	// Zero means that their ages are unknown.
	Wait time.Duration
	// Unix reads unix listeners although no rule names them.
	Unix bool
	// Namespaces are the network namespaces whose listeners are read.
	Namespaces namespaceChoice
}

// reading is what was read of the listeners.
type reading struct {
	owner.Result
	// foreign are listeners of other network namespaces, if those were read.
	foreign     []foreign
	readForeign bool
	places      []published.Place // the namespaces that those are in
	// unreadNamespaces counts the network namespaces that were not read; beside them are the
	// privileges that this process lacks to read them all.
	unreadNamespaces  int
	missingNamespaces []string
	// partial are the protocols of which some sockets were not read, and unknown
	// those that this host does not report.
	partial, unknown []socket.Protocol
	// filtersHidden is that of [socket.PortlessTable].
	filtersHidden bool
}

// whole reports whether every socket of a protocol was read.
func (r *reading) whole(p socket.Protocol) bool {
	return !slices.Contains(r.partial, p) && !slices.Contains(r.unknown, p)
}

// wholeElsewhere reports whether every listener of the other network namespaces was read.
func (r *reading) wholeElsewhere() bool {
	return r.readForeign && r.unreadNamespaces == 0 && len(r.missingNamespaces) == 0
}

// everywhere returns the listeners of all network namespaces, those of our own first.
func (r *reading) everywhere() []socket.Owned {
	all := slices.Clone(r.Owned)
	for i := range r.foreign {
		all = append(all, r.foreign[i].Owned)
	}
	return all
}

// read returns the listeners of the host with their owners. On standard error it
// says what it could not read.
func (h *Command) read(ctx context.Context) (reading, error) {
	return within(ctx, limit+h.Wait, "read the listeners", h.readListeners)
}

func (h *Command) readListeners(ctx context.Context) (reading, error) {
	seen, err := h.watch(ctx)
	if err != nil {
		return reading{}, err
	}
	var r reading
	if seen.own != nil {
		h.addOwn(ctx, &r, seen.own)
	} else {
		r.unknown = socket.Judged()
	}
	if seen.others != nil {
		h.sayForeign(seen.others.tables)
		h.addForeign(ctx, &r, seen.others)
	}
	return r, nil
}

// addOwn adds the listeners of our own network namespace.
func (h *Command) addOwn(ctx context.Context, r *reading, table *socket.Table) {
	h.sayTable(table)
	r.Result = h.System.Owners.Owners(ctx, table.Listeners)
	for _, p := range socket.Protocols() {
		if !table.Whole(p) {
			r.partial = append(r.partial, p)
		}
	}
	h.addPortless(ctx, r)
	h.addUnix(ctx, r)
}

// addPortless adds what listens without a port, with owners.
func (h *Command) addPortless(ctx context.Context, r *reading) {
	if h.System.Portless == nil {
		r.unknown = socket.Portless()
		return
	}
	table, err := h.System.Portless(ctx)
	if err != nil {
		fmt.Fprintf(h.Stderr, "cannot read all raw and packet sockets and vsock listeners: %v\n", err)
	}
	for _, p := range socket.Portless() {
		switch {
		case !table.Has(p) && err == nil:
			r.unknown = append(r.unknown, p)
		case !table.Whole(p):
			r.partial = append(r.partial, p)
		}
		h.sayUnread(p, table.Unread[p])
	}
	r.filtersHidden = table.FiltersHidden
	r.add(h.System.PortlessOwners.Owners(ctx, table.Listeners))
}

// watch reads the listeners, after it has watched the UDP sockets for a while. It looks
// more than twice: a service may bind its port again in between.
func (h *Command) watch(ctx context.Context) (*sight, error) {
	if h.Wait == 0 {
		return h.look(ctx, nil)
	}
	const sockets, looks = 1 << 15, 8
	aged := socket.NewLongLived(h.Wait, sockets, time.Now).Age
	seen, err := h.look(ctx, aged)
	for i := 0; i < looks && err == nil; i++ {
		select {
		case <-time.After(h.Wait/looks + 1):
			seen, err = h.look(ctx, aged)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return seen, err
}

// sight is what one look at the host has seen.
type sight struct {
	own    *socket.Table // nil if it is not asked for
	others *others       // likewise
}

// age is that of a UDP socket, as in [socket.Criteria].
type age = func(s *socket.Socket, chosen bool) socket.Age

// look reads the listeners that are asked for, without owners.
func (h *Command) look(ctx context.Context, aged age) (seen *sight, err error) {
	seen = new(sight)
	if h.Namespaces.own() {
		reader := h.System.Reader()
		reader.Named, reader.Aged = policy.Named(h.Config.Policy), aged
		if seen.own, err = reader.Listening(ctx); err != nil {
			return nil, err
		}
	}
	switch {
	case h.Namespaces.others():
		seen.others, err = h.lookElsewhere(ctx, aged)
	case h.judgesOthers():
		if seen.others, err = h.lookElsewhere(ctx, aged); err != nil && ctx.Err() == nil { // the gap has a verdict of its own
			fmt.Fprintf(h.Stderr, "%v\n", err)
			err = nil
		}
	}
	return seen, err
}

func (h *Command) sayTable(t *socket.Table) {
	if t.DefaultPorts != nil {
		ports, _ := h.System.EphemeralPorts()
		fmt.Fprintf(h.Stderr, "cannot read the ephemeral port range, using %d-%d: %v\n", ports.First, ports.Last, t.DefaultPorts)
	}
	if t.Interrupted != nil {
		fmt.Fprintf(h.Stderr, "listeners may be missing: %v\n", t.Interrupted)
	}
	for _, p := range socket.Protocols() {
		h.sayUnread(p, t.Unread[p])
	}
}

func (h *Command) sayUnread(p socket.Protocol, sockets int) {
	if sockets > 0 {
		fmt.Fprintf(h.Stderr, "%d %v sockets were not read: there are too many\n", sockets, p)
	}
}

// addUnix adds unix listeners, with owners, where a rule or the caller asks for them.
func (h *Command) addUnix(ctx context.Context, r *reading) {
	if h.System.Unix == nil || !h.Unix && !h.asksFor(socket.Unix) {
		r.unknown = append(r.unknown, socket.Unix)
		return
	}
	table, err := h.System.Unix(ctx)
	switch {
	case err != nil:
		fmt.Fprintf(h.Stderr, "cannot read unix listeners: %v\n", err)
		r.partial = append(r.partial, socket.Unix)
	case !table.Has(socket.Unix):
		r.unknown = append(r.unknown, socket.Unix)
	case !table.Whole(socket.Unix):
		r.partial = append(r.partial, socket.Unix)
	}
	h.sayUnread(socket.Unix, table.Unread[socket.Unix])
	r.add(h.System.UnixOwners.Owners(ctx, table.Listeners))
}

// add adds listeners with their owners.
func (r *reading) add(found owner.Result) {
	r.Owned = append(r.Owned, found.Owned...)
	r.addUnknown(found)
}

// addUnknown adds what is unknown of owners.
func (r *reading) addUnknown(found owner.Result) {
	r.Unattributed += found.Unattributed
	r.Pending += found.Pending
	if len(r.Missing) == 0 {
		r.Missing = found.Missing
	}
}

// asksFor reports whether a rule names the protocol.
func (h *Command) asksFor(p socket.Protocol) bool {
	return slices.ContainsFunc(h.Config.Policy, func(r policy.Rule) bool { return slices.Contains(r.Protocols, p) })
}

// sayUnknown says on standard error what the host does not report, and how to change
// that.
func (h *Command) sayUnknown(owners reading) {
	if h.Namespaces.own() && slices.Contains(owners.unknown, socket.Vsock) && h.System != nil && h.System.Portless != nil {
		fmt.Fprint(h.Stderr, "vsock listeners are unknown: the kernel does not report them\nhint: modprobe vsock_diag\n")
	}
}

// sayMissing says on standard error what could not be seen of the listeners.
func (h *Command) sayMissing(owners reading) {
	if owners.Pending > 0 {
		fmt.Fprintf(h.Stderr, "the owner of %d of the listeners may be known later: a process or the name service does not answer\n", owners.Pending)
	}
	missing := owners.Missing
	if owners.Unattributed > 0 {
		fmt.Fprintf(h.Stderr, "the process of %d of the listeners is unknown\n", owners.Unattributed)
	}
	if owners.filtersHidden {
		fmt.Fprintln(h.Stderr, "the filters of packet sockets are unknown")
		missing = append(slices.Clone(missing), owner.CapNetAdmin)
	}
	if owners.unreadNamespaces > 0 {
		fmt.Fprintf(h.Stderr, "%d network namespaces were not read\n", owners.unreadNamespaces)
	}
	if len(owners.missingNamespaces) > 0 {
		fmt.Fprintln(h.Stderr, "network namespaces may be missing")
	}
	for _, privilege := range owners.missingNamespaces {
		if !slices.Contains(missing, privilege) {
			missing = append(slices.Clone(missing), privilege)
		}
	}
	for _, hint := range owner.Hints(missing) {
		fmt.Fprintf(h.Stderr, "hint: %s\n", hint)
	}
}
