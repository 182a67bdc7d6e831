package verdict

import (
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/route"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Facts is what is known of one attempt to reach a target. Only Target and Result are
// always there; the more of the others is known, the surer is the verdict.
type Facts struct {
	Target *probe.Target
	Result *probe.Result
	// Listener is what the listeners of this host make of the address that was tried;
	// nil if it is not an address of this host, or the listeners are unknown.
	Listener *socket.Answer
	// Owner names the owner of that listener, as in "nginx (pid 7, nginx.service)"; empty
	// if it is unknown.
	Owner string
	// Route is the route to the address that was tried; nil if it is unknown.
	Route *route.Route
	// Source is the address that the probe was to come from; invalid if the kernel chose.
	Source netip.Addr
	// Device is the interface that the probe was bound to; empty if none.
	Device string
	// Ports is the use of ephemeral ports towards it; nil if it is unknown.
	Ports *Ports
	// Others are the other addresses of the name, each with its outcome.
	Others []Attempt
	// Rule is a firewall rule of this host that decides; nil if none does, or unknown.
	Rule *Rule
	// Sent is where a rule of this host sends the connection instead; nil if none does,
	// or unknown.
	Sent *Sent
	// Names is what is known of the lookup that failed, if one did.
	Names Names
	// Unsent says that this host could not send a SYN again: a rule of it drops. The
	// first one fails in silence.
	Unsent bool
	// Reversed says that the reverse path filter of this host discarded packets while
	// the target was silent: its answers, perhaps.
	Reversed bool
	// Path is where the packets of this target die; nil if it was not traced.
	Path *Path
}

// Ports is the use of ephemeral ports towards one address and port.
type Ports struct {
	Used, Of    int
	First, Last uint16
	By          string // whose they are mostly; empty if unknown
}

// Attempt is an address of the target's name, and what became of it.
type Attempt struct {
	Address netip.Addr
	Outcome probe.Outcome
}

// Rule is a firewall rule of this host.
type Rule struct {
	Drops bool   // it drops; else it rejects
	Where string // as nft names it: "inet filter input handle 7"
}

// Sent is what a rule of this host that changes the destination does.
type Sent struct {
	To    string // address:port, or a port of this host
	Where string // the rule, as nft names it
	Check string // what to check in place of the target; empty if unknown
}

// Path is what a trace found.
type Path struct {
	LastHop   netip.Addr // the last hop that answered; invalid if none did
	Hop       int        // its number, from 1
	BlackHole bool       // large packets are lost, small ones are not
	MTU       int        // what passes, in bytes; 0 if it is unknown
	Host      string     // what the target's host answers though the port does not: "ping in 0.4 ms"; empty if nothing
}

// late reports whether the target accepted when the time of the probe was up.
func (f *Facts) late() bool {
	r := f.Result
	return r.Outcome == probe.Timeout && r.Phase == probe.PhaseConnect && r.Origin == probe.OriginTarget
}

// ofOtherFamily reports whether the listener is on every address, of the other version
// of IP.
func (f *Facts) ofOtherFamily() bool {
	l := f.Listener
	return l.Standing == socket.OtherAddress && l.Listener.Interface == "" && l.Listener.Address.IsUnspecified() &&
		l.Listener.Address.Is4() != l.To.Addr().Is4()
}

// isBroadcast reports whether the address is that of every host of a network.
func (f *Facts) isBroadcast() bool { return f.Route != nil && f.Route.Type == route.Broadcast }

// interfaceDown reports whether the interface of the route sends nothing.
func (f *Facts) interfaceDown() bool { return f.Route != nil && f.Route.Down != "" }

// neighbourSilent reports whether the next hop did not answer ARP or ND, so that no
// packet has left yet.
func (f *Facts) neighbourSilent() bool {
	return f.Route != nil && f.Route.NeighbourSilent()
}

// listenerTakes reports whether a listener of this host takes the address, with room
// in its queue.
func (f *Facts) listenerTakes() bool {
	return f.Listener != nil && f.Listener.Standing == socket.Listens
}
