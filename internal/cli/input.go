package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// maxInput bounds a saved table, in bytes: some hundred thousand listeners.
const maxInput = 64 << 20

// savedTable is what listeners --output=json writes: all that the verdicts on a host
// depend on.
type savedTable struct {
	Listeners []row `json:"listeners"`
	// Partial and Unknown are those of [reading].
	Partial []string `json:"partial"`
	Unknown []string `json:"unknown"`
	// AllNamespaces says that the listeners are all of every other network namespace.
	AllNamespaces bool `json:"all_namespaces,omitempty"`
	// UnreadNamespaces counts other network namespaces, where they were asked for.
	UnreadNamespaces int `json:"unread_namespaces,omitempty"`
	// Published are ports without a listener. They are not judged.
	Published []publishedRow `json:"published,omitempty"`
}

// readTable reads a file that listeners --output=json wrote, perhaps on another
// host; "-" is standard input.
func readTable(file string, stdin io.Reader) (reading, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return reading{}, err
		}
		defer f.Close()
		stdin = f
	}
	r, err := parseTable(stdin)
	if err != nil {
		return reading{}, fmt.Errorf("--input=%s: %w\nhint: write it with: port_exporter listeners --output=json", file, err)
	}
	return r, nil
}

func parseTable(from io.Reader) (r reading, err error) {
	text, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err != nil {
		return r, err
	}
	if len(text) > maxInput {
		return r, fmt.Errorf("it is larger than %d MiB", maxInput>>20)
	}
	var saved savedTable
	if err := json.Unmarshal(text, &saved); err != nil {
		return r, err
	}
	if saved.Listeners == nil {
		return r, errors.New("no list of listeners found")
	}
	for i := range saved.Listeners {
		o, err := saved.Listeners[i].owned()
		if err != nil {
			return r, fmt.Errorf("listeners[%d]: %w", i, err)
		}
		if o.Netns == "" {
			r.Owned = append(r.Owned, o)
		} else {
			o.Workload = saved.Listeners[i].Runs.workload()
			r.foreign = append(r.foreign, foreign{o, saved.Listeners[i].Runs})
		}
	}
	r.readForeign, r.unreadNamespaces = saved.AllNamespaces, saved.UnreadNamespaces
	r.Pending = countPending(r.Owned)
	if r.partial, err = protocols(saved.Partial, "partial"); err != nil {
		return r, err
	}
	r.unknown, err = protocols(saved.Unknown, "unknown")
	return r, err
}

// protocols returns the protocols of a list of names.
func protocols(names []string, what string) (all []socket.Protocol, err error) {
	for _, name := range names {
		p, err := named(name, what, socket.Judged())
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// countPending counts the rows whose owner was not known at the time.
func countPending(owned []socket.Owned) (n int) {
	for i := range owned {
		if owned[i].Owner.Pending {
			n++
		}
	}
	return n
}

// owned returns the listener that a row was made of, without what rows leave out.
func (r *row) owned() (o socket.Owned, err error) {
	if o.Protocol, err = named(r.Protocol, "protocol", socket.Judged()); err != nil {
		return o, err
	}
	if err := r.locate(&o); err != nil {
		return o, err
	}
	if err := r.reachable(&o); err != nil {
		return o, err
	}
	o.Netns, o.Interface = r.Netns, r.Interface
	o.DualStack, o.Ephemeral, o.MayBeClient, o.Absent, o.Sockets = r.DualStack, r.Ephemeral, r.MayBeClient, r.Absent, r.Sockets
	r.queues(&o)
	o.Owner = socket.Owner{
		Process: r.Process, Comm: r.Comm, PID: r.PID, User: r.User, UserID: r.UID, Executable: r.Executable, Deleted: r.Deleted, Unit: r.Unit, Container: r.Container,
		Pending: r.Pending,
	}
	return o, nil
}

// reachable takes the scope of the row where the address does not say it: that of
// a broadcast address depends on the networks of the host.
func (r *row) reachable(o *socket.Owned) error {
	if r.Scope == "" {
		return nil
	}
	scope, err := named(r.Scope, "scope", socket.Scopes())
	if err == nil && scope == socket.ScopeLinkLocal && o.Address.Is4() && (o.Scope == socket.ScopePublic || o.Scope == socket.ScopePrivate) {
		o.Scope = scope
	}
	return err
}

// locate reads where the listener is, by its protocol.
func (r *row) locate(o *socket.Owned) (err error) {
	if o.Protocol == socket.Vsock {
		cid, err := socket.ParseContext(r.CID)
		o.SetVsock(socket.VsockAddr{CID: cid, Port: r.Port})
		if err != nil {
			return fmt.Errorf("cid: %w", err)
		}
		return nil
	}
	if o.Protocol == socket.Unix {
		o.Unix = socket.UnixName{Path: r.Path, Abstract: r.Type == socket.UnixName{Abstract: true}.Kind()}
		o.Scope = socket.ScopeLoopback
		if r.Path == "" {
			return errors.New("missing path")
		}
		return nil
	}
	if o.Protocol == socket.Packet {
		if o.PacketType, err = named(r.Type, "type", socket.PacketTypes()); err != nil {
			return err
		}
		if o.Filter, err = named(r.Filter, "filter", socket.Filters()); err != nil {
			return err
		}
	}
	if r.Address != "" || o.Protocol != socket.Packet {
		if o.Address, err = netip.ParseAddr(r.Address); err != nil {
			return fmt.Errorf("address: %w", err)
		}
		o.Scope = socket.ScopeOf(o.Address)
	}
	if r.Port == 0 && !o.IsPortless() {
		return errors.New("missing port")
	}
	if r.Port > math.MaxUint16 {
		return fmt.Errorf("port: %d is above %d", r.Port, math.MaxUint16)
	}
	o.Port = uint16(r.Port)
	return nil
}

func (r *row) queues(o *socket.Owned) {
	if r.AcceptQueue != nil {
		o.AcceptQueue, o.Known = *r.AcceptQueue, o.Known|socket.KnowsQueues
	}
	if r.AcceptQueueLimit != nil {
		o.AcceptQueueLimit, o.Known = *r.AcceptQueueLimit, o.Known|socket.KnowsAcceptQueueLimit
	}
	if r.AcceptQueueFull != nil {
		o.Full = int(min(*r.AcceptQueueFull, math.MaxInt32))
	}
}

// named finds a value by its name.
func named[T fmt.Stringer](word, what string, all []T) (T, error) {
	for _, value := range all {
		if value.String() == word {
			return value, nil
		}
	}
	var none T
	return none, fmt.Errorf("%s: unknown value %q", what, word)
}
