package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/published"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
)

// namespaceChoice are the network namespaces to list. Its zero value is our own.
type namespaceChoice struct {
	All  bool
	Name string // of another one; empty for none
}

// own reports whether our own is one of them.
func (c namespaceChoice) own() bool { return c.Name == "" }

// others reports whether another one is.
func (c namespaceChoice) others() bool { return c.All || c.Name != "" }

// check refuses other flags that concern our own namespace only. judged says that the policy
// is about others too.
func (c namespaceChoice) check(o ListenersOptions, judged bool) error {
	flag := "--all-namespaces"
	if c.Name != "" {
		flag = "--netns"
	}
	switch {
	case !c.others():
		return nil
	case c.All && c.Name != "":
		return errors.New("--all-namespaces: must not be combined with --netns")
	case o.Input != "":
		return fmt.Errorf("%s: must not be combined with --input\nhint: a saved table has the network namespaces that it was saved with", flag)
	case o.needsPolicy() != "" && !judged:
		return fmt.Errorf("%s: must not be combined with %s: the policy is about the own network namespace only\nhint: a rule with netns or pod is about others", flag, o.needsPolicy())
	}
	return nil
}

// foreign is a listener of another network namespace, and what runs there.
type foreign struct {
	socket.Owned
	runs *namespaceRow
}

// namespaceRow is what runs in a network namespace, as in port_netns_info.
type namespaceRow struct {
	Runtime     string `json:"runtime"`
	ContainerID string `json:"container_id"`
	Container   string `json:"container"`
	Pod         string `json:"pod"`
	Namespace   string `json:"namespace"`
	PodUID      string `json:"pod_uid"`
	Unit        string `json:"unit"`
	Hidden      bool   `json:"processes_hidden,omitempty"`
	// Read is procfs if the namespace could not be entered: then limits of accept queues,
	// drops and interfaces are unknown.
	Read string `json:"read,omitempty"`
}

// workload returns what the row says of the workload; of one that was not saved, nothing.
func (n *namespaceRow) workload() *socket.Workload {
	if n == nil {
		return &socket.Workload{Hidden: true}
	}
	return &socket.Workload{
		Runtime: n.Runtime, ContainerID: n.ContainerID, Container: n.Container,
		PodUID: n.PodUID, Pod: n.Pod, Namespace: n.Namespace, Hidden: n.Hidden,
	}
}

// cell is the pod, else the container, by its name.
func (n *namespaceRow) cell() string {
	switch {
	case n == nil:
		return ""
	case n.Pod == "":
		return plain.Name(n.Container)
	case n.Namespace == "":
		return plain.Name(n.Pod)
	default:
		return plain.Name(n.Namespace + "/" + n.Pod)
	}
}

// valid returns the row in UTF-8.
func (n *namespaceRow) valid() *namespaceRow {
	if n == nil {
		return nil
	}
	return &namespaceRow{
		plain.Valid(n.Runtime), plain.Valid(n.ContainerID), plain.Valid(n.Container), plain.Valid(n.Pod),
		plain.Valid(n.Namespace), plain.Valid(n.PodUID), plain.Valid(n.Unit), n.Hidden, n.Read,
	}
}

// others are other network namespaces, as one look has seen them.
type others struct {
	unread int // how many were not read
	tables []otherTable
}

// otherTable has the listeners of one, or says why they could not be read.
type otherTable struct {
	*netns.Namespace
	*socket.Table
	files bool // of procfs: it could not be entered
	err   error
}

// lookElsewhere reads the listeners of the other network namespaces that are asked for.
func (h *Command) lookElsewhere(ctx context.Context, aged age) (*others, error) {
	if h.System.Namespaces == nil {
		return nil, fmt.Errorf("other network namespaces cannot be read with the source %s\nhint: --source=sock_diag, on Linux", h.System.Name)
	}
	found, err := h.System.Namespaces.Read(ctx)
	if err != nil {
		return nil, err
	}
	seen, files := &others{}, false
	if h.Namespaces.Name == "" {
		seen.unread = found.Depths[netns.Unread]
	} else {
		closed := h.Namespaces.chosen(found.Closed)
		if found.Namespaces = h.Namespaces.chosen(found.Namespaces); len(found.Namespaces)+len(closed) == 0 {
			return nil, h.notFound(&found)
		}
		if len(found.Namespaces) == 0 {
			found.Namespaces, files = closed, true
		}
	}
	for i := range found.Namespaces {
		n := &found.Namespaces[i]
		reader := n.Reader(ctx)
		reader.Aged, reader.Named = aged, policy.NamedElsewhere(h.Config.Policy)
		table, err := reader.Listening(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			seen.unread += n.Count
		}
		seen.tables = append(seen.tables, otherTable{n, table, files, err})
	}
	return seen, nil
}

// chosen returns the namespace of the name.
func (c namespaceChoice) chosen(all []netns.Namespace) []netns.Namespace {
	return netns.Called(all, c.Name, func(n *netns.Namespace) *netns.Identity { return &n.Identity })
}

// notFound says that there is no namespace of the name, or what it may be instead.
func (h *Command) notFound(found *netns.Found) error {
	text := "no other network namespace with TCP or UDP sockets has this name"
	if n := found.Depths[netns.Unread]; n > 0 {
		text += fmt.Sprintf("; %d could not be read", n)
	}
	hint := "port_exporter listeners --all-namespaces"
	if missing := owner.Hints(h.System.Namespaces.Missing()); len(missing) > 0 {
		hint = missing[0]
	}
	return fmt.Errorf("--netns=%s: %s\nhint: %s", plain.Name(h.Namespaces.Name), text, hint)
}

// addForeign adds the listeners of other network namespaces, whose owners are found
// together.
func (h *Command) addForeign(ctx context.Context, r *reading, seen *others) {
	r.readForeign, r.unreadNamespaces, r.missingNamespaces = true, seen.unread, h.System.Namespaces.Missing()
	var listeners []socket.Listener
	known := map[string]*namespaceRow{}
	workloads := map[string]*socket.Workload{}
	for _, t := range seen.tables {
		if t.err != nil {
			continue
		}
		listeners = append(listeners, t.Listeners...)
		listed := &namespaceRow{
			Runtime: t.Runtime, ContainerID: t.ContainerID, Container: t.Container, Pod: t.Pod,
			Namespace: t.Identity.Namespace, PodUID: t.PodUID, Unit: t.Unit, Hidden: t.Hidden,
		}
		if t.files {
			listed.Read = system.ProcFS
		}
		known[t.Name], workloads[t.Name] = listed, t.Workload()
		if t.Unread.Sum() > 0 {
			r.unreadNamespaces++
		}
	}
	found := h.System.NamespaceOwners.Owners(ctx, listeners)
	owned := map[string][]socket.Owned{}
	for _, o := range found.Owned {
		o.Workload = workloads[o.Netns]
		owned[o.Netns] = append(owned[o.Netns], o)
		r.foreign = append(r.foreign, foreign{o, known[o.Netns]})
	}
	r.addUnknown(found)
	for _, t := range seen.tables {
		r.places = append(r.places, published.PlaceOf(ctx, t.Namespace, owned[t.Name]))
	}
}

// sayForeign says what could not be read of other network namespaces.
func (h *Command) sayForeign(tables []otherTable) {
	var noPorts int
	var reason error
	for _, t := range tables {
		in := "network namespace " + plain.Name(t.Name)
		if t.err != nil {
			fmt.Fprintf(h.Stderr, "%s: cannot read the listeners: %v\n", in, t.err)
			continue
		}
		if t.files {
			fmt.Fprintf(h.Stderr, "%s: it cannot be entered and was read from /proc/PID/net: limits of accept queues, drops and interfaces are unknown\n", in)
		}
		if t.DefaultPorts != nil {
			noPorts, reason = noPorts+1, t.DefaultPorts
		}
		if t.Interrupted != nil {
			fmt.Fprintf(h.Stderr, "%s: listeners may be missing: %v\n", in, t.Interrupted)
		}
		for p, unread := range t.Unread {
			if unread > 0 {
				fmt.Fprintf(h.Stderr, "%s: %d %v sockets were not read: there are too many\n", in, unread, socket.Protocol(p))
			}
		}
	}
	if noPorts > 0 {
		fmt.Fprintf(h.Stderr, "cannot read the ephemeral port range of %d network namespaces, using the default: %v\n", noPorts, reason)
	}
}
