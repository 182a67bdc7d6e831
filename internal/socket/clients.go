package socket

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Clients remembers which owners have UDP sockets on many ephemeral ports, one
// after the other or at the same time: such sockets are a client's, and each of
// them would be a new series. It is safe for concurrent use.
type Clients struct {
	now func() time.Time

	mu    sync.Mutex
	ports map[client]map[uint16]time.Time // when each was last seen
}

// client is whose sockets are taken together.
type client struct {
	protocol Protocol
	owner    Owner
}

const (
	fewPorts      = 4         // so many have their own series
	portsLast     = time.Hour // a port counts for so long after it was last seen
	mostClients   = 1024      // owners that are remembered; those beyond count as owners of many
	mostOfAClient = 4 * fewPorts
)

// NewClients returns an empty memory that reads the time from now.
func NewClients(now func() time.Time) *Clients {
	return &Clients{now: now, ports: map[client]map[uint16]time.Time{}}
}

// Fold returns the listeners, and the same with their owners, where those of one
// owner of many that may be clients are one at each address, with port 0. Both
// are sorted by ID. Folded has those that are not there any more.
func (c *Clients) Fold(listeners []Listener, owned []Owned) (kept []Listener, keptOwned []Owned, folded map[ListenerID]bool) {
	many := c.note(owned)
	folded = map[ListenerID]bool{}
	for i := range owned {
		if o := &owned[i]; o.MayBeClient && many[clientOf(o)] {
			folded[o.ListenerID] = true
		}
	}
	if len(folded) == 0 {
		return listeners, owned, nil
	}
	joined := map[ListenerID]*Listener{}
	for i := range listeners {
		l := &listeners[i]
		if !folded[l.ListenerID] {
			kept = append(kept, *l)
			continue
		}
		join(joined, l)
	}
	for _, l := range joined {
		kept = append(kept, *l)
	}
	slices.SortFunc(kept, func(a, b Listener) int { return a.Compare(b.ListenerID) })
	return kept, foldOwned(owned, folded, joined), folded
}

func clientOf(o *Owned) client { return client{o.Protocol, o.Owner.Identity()} }

// join adds a listener to the one at its address that has port 0.
func join(joined map[ListenerID]*Listener, l *Listener) {
	id := l.ListenerID
	id.Port = 0
	sum, ok := joined[id]
	if !ok {
		first := *l
		first.ListenerID, first.Members, first.Peers = id, slices.Clone(l.Members), slices.Clone(l.Peers)
		joined[id] = &first
		return
	}
	sum.Sockets += l.Sockets
	sum.Known &= l.Known
	sum.DualStack = sum.DualStack || l.DualStack
	sum.ReceiveQueue += l.ReceiveQueue
	sum.Drops += l.Drops
	sum.Members = append(sum.Members, l.Members...)
	sum.Peers = append(sum.Peers, l.Peers...)
}

// foldOwned returns the owners of what was kept, and each owner once of what was
// joined.
func foldOwned(owned []Owned, folded map[ListenerID]bool, joined map[ListenerID]*Listener) []Owned {
	var kept []Owned
	for _, o := range owned {
		if folded[o.ListenerID] {
			id := o.ListenerID
			id.Port = 0
			o.Listener = *joined[id]
		}
		kept = append(kept, o)
	}
	slices.SortStableFunc(kept, func(a, b Owned) int {
		return cmp.Or(a.Compare(b.ListenerID), sortJoined(&a, &b))
	})
	return slices.CompactFunc(kept, func(a, b Owned) bool {
		return a.Port == 0 && a.ListenerID == b.ListenerID && a.Owner.Identity() == b.Owner.Identity()
	})
}

// sortJoined brings equal owners of what was joined together.
func sortJoined(a, b *Owned) int {
	if a.Port != 0 {
		return 0
	}
	return a.Owner.Compare(b.Owner)
}

// note adds the ports that are there, and returns who has had many lately.
func (c *Clients) note(owned []Owned) map[client]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	many := map[client]bool{}
	for i := range owned {
		if o := &owned[i]; o.MayBeClient && !c.add(clientOf(o), o.Port, now) {
			many[clientOf(o)] = true
		}
	}
	for key, ports := range c.ports {
		for port, seen := range ports {
			if now.Sub(seen) > portsLast {
				delete(ports, port)
			}
		}
		if len(ports) == 0 {
			delete(c.ports, key)
		}
		many[key] = len(ports) > fewPorts
	}
	return many
}

// add returns false where there is no room for another client.
func (c *Clients) add(key client, port uint16, now time.Time) bool {
	ports, ok := c.ports[key]
	if !ok {
		if len(c.ports) == mostClients {
			return false
		}
		ports = map[uint16]time.Time{}
		c.ports[key] = ports
	}
	if _, known := ports[port]; known || len(ports) < mostOfAClient {
		ports[port] = now
	}
	return true
}
