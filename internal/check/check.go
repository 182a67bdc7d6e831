// Package check takes "I cannot connect" apart: it probes a target once, gathers what
// this host knows of the way there, and returns a verdict with its evidence.
package check

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/ownhost"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/route"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
	"github.com/port-exporter/port_exporter/internal/trace"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// Host is what can be asked of this host.
type Host struct {
	Addresses      func() (map[netip.Addr]string, error)
	Listening      func(context.Context) (*socket.Table, error)
	Owners         func(context.Context, []socket.Listener) owner.Result
	Sockets        socket.Source
	EphemeralPorts func() (socket.EphemeralPorts, error)
	Route          func(route.Query) (route.Route, error)
	// Firewall reads the rules of this host; nil if that is unknown.
	Firewall func(context.Context) (*firewall.Ruleset, error)

	// in is the network namespace that is asked; nil is our own. The others make a host of
	// that of a name.
	in              system.Netns
	netns           func(name string) system.Netns
	namespaceOwners func(context.Context, []socket.Listener) owner.Result
	foreignFirewall func(context.Context) (*firewall.Ruleset, error)
}

// Of returns what can be asked of a system.
func Of(s *system.System) *Host {
	return &Host{
		Addresses: s.Addresses, Listening: s.Reader().Listening, Owners: s.Owners.Owners,
		Sockets: s.Source, EphemeralPorts: s.EphemeralPorts, Route: route.Get, Firewall: s.Firewall,
		netns: s.Netns, namespaceOwners: s.NamespaceOwners.Owners, foreignFirewall: s.ForeignFirewall,
	}
}

// Request says what to check.
type Request struct {
	Target *probe.Target
	// Probe is what the prober is asked; its address is the target's.
	Probe probe.Request
	// AllAddresses has the module probe every address of the name, not only the first.
	// Without it, a TCP connection to each of the others is made and closed.
	AllAddresses bool
	// Trace has the path to the address that was tried traced, whatever the outcome is.
	Trace bool
}

// Report is what was found of a target.
type Report struct {
	Target  *probe.Target
	Result  probe.Result // of the address that decides
	Verdict verdict.Verdict
	// Success is that of [probe.Module.Success]. It is not Known if the target was not
	// tried.
	Success, Known bool

	Lookups     []probe.Lookup
	Connections []probe.Connection
	Handshakes  []probe.Handshake
	// Attempts are the addresses of the name, each with what became of it, if it has
	// several.
	Attempts []Attempt
	Listener *Listener // of this host, if the target is; nil if not, or unknown
	Ports    *verdict.Ports
	netns    string // what the network namespace of the target is called; empty if unknown
	source   netip.Addr
	device   string // that sockets are bound to; empty if the routes choose
	// nameServers are those of /etc/resolv.conf, as host:port; nil if they are unknown.
	nameServers *[]string
	meanwhile   counters     // of this host, during the probe
	Route       *route.Route // to the address that was tried; nil if unknown
	// Path is the path to that address; nil if it was not traced, or could not be, which
	// PathErr says.
	Path     *trace.Path
	PathErr  error
	Firewall *Firewall // nil if there are no rules, or they are unknown
}

// Attempt is what became of one address of a name.
type Attempt struct {
	Address netip.AddrPort
	Result  probe.Result
	Probed  bool // by the module; else only connected to
}

// Listener is what this host has at the address of the target.
type Listener struct {
	socket.Answer
	Owners  []socket.Owner // of its listener; empty ones are unknown
	Pending bool           // one was not found in time
	Missing []string       // the privileges that would tell more
	Others  []socket.Listener
}

// readLimit is how long reading this host may take: a file that hangs costs facts, not
// the verdict.
const readLimit = 10 * time.Second

// Run checks a target, from its network namespace. It returns soon after ctx ends.
func (h *Host) Run(ctx context.Context, q Request) *Report {
	if q.Target.Netns != "" {
		h = h.In(ctx, q.Target.Netns)
		ctx = probe.WithNetns(ctx, h.in)
	}
	r := &Report{Target: q.Target, source: q.Probe.Source, device: q.Probe.Device}
	rest := &others{of: &q}
	details := &probe.Details{Resolved: func(l probe.Lookup) { rest.try(ctx, l) }}
	q.Probe.Address, q.Probe.Hostname = q.Target.Address, q.Target.Hostname
	before := h.counters(ctx)
	r.Result = q.Target.Module.Probe(probe.WithDetails(ctx, details), q.Probe)
	r.meanwhile = h.counters(ctx).since(before)
	if h.in != nil {
		r.netns = h.in.Name()
	}
	r.Attempts = rest.wait(&r.Result)
	r.decide(q.AllAddresses)
	r.Lookups, r.Connections, r.Handshakes = details.Lookups(), details.Connections(), details.Handshakes()
	r.Success, r.Known = q.Target.Module.Success(r.Result)
	facts := h.facts(ctx, r)
	if q.Trace {
		facts.Path = r.trace(ctx, &q)
	}
	r.Verdict = verdict.Judge(facts)
	return r
}

// decide has the address count that is worst, if the module probed all.
func (r *Report) decide(all bool) {
	if !all || r.Result.Outcome != r.Target.Module.Expect {
		return
	}
	for _, a := range r.Attempts {
		if a.Probed && a.Result.Outcome.Tried() && a.Result.Outcome != r.Target.Module.Expect {
			r.Result = a.Result
			return
		}
	}
}

// facts gathers what the verdict rests on.
func (h *Host) facts(ctx context.Context, r *Report) *verdict.Facts {
	facts := &verdict.Facts{Target: r.Target, Result: &r.Result, Source: r.source, Device: r.device}
	for _, a := range r.Attempts {
		if a.Address != r.Result.Peer {
			facts.Others = append(facts.Others, verdict.Attempt{Address: a.Address.Addr(), Outcome: a.Result.Outcome})
		}
	}
	within(ctx, func(ctx context.Context) *Listener { return h.listener(ctx, r) }, &r.Listener)
	if r.Listener != nil {
		facts.Listener, facts.Owner = &r.Listener.Answer, r.Listener.Name()
	}
	if sent := r.synsInVain(); sent > 0 {
		facts.Unsent, facts.Reversed = r.meanwhile.unsent >= sent-1 && sent > 1, r.meanwhile.reversed >= sent
	}
	if peer := r.Result.Peer.Addr(); h.Route != nil && peer.IsValid() && r.Result.Proxy == "" {
		within(ctx, func(context.Context) *route.Route { return h.route(r) }, &r.Route)
		facts.Route = r.Route
	}
	within(ctx, func(ctx context.Context) *Firewall { return h.firewall(ctx, r) }, &r.Firewall)
	facts.Rule = r.Firewall.rule()
	if facts.Sent = r.Firewall.sent(r.Result.Peer); facts.Sent != nil { // what listens at the old address has no say
		facts.Listener, facts.Owner, facts.Unsent = nil, "", false
	}
	if r.askedServers() {
		within(ctx, func(context.Context) *[]string { return nameServers() }, &r.nameServers)
		facts.Names = r.failedLookup()
	}
	if lacksPorts(&r.Result) {
		within(ctx, func(ctx context.Context) *verdict.Ports { return h.ports(ctx, r.Result.Peer) }, &r.Ports)
		facts.Ports = r.Ports
	}
	return facts
}

// synsInVain returns how many SYNs were sent to the address that decides, if it is silent.
func (r *Report) synsInVain() uint64 {
	if r.Result.Outcome != probe.Timeout || r.Result.Phase != probe.PhaseConnect {
		return 0
	}
	for _, c := range r.Connections {
		if c.To == r.Result.Peer && c.Err != nil {
			return uint64(c.Retransmits) + 1
		}
	}
	return 0
}

// route returns the route to the address that was tried; nil if it is unknown.
func (h *Host) route(r *Report) *route.Route {
	q := route.Query{To: r.Result.Peer.Addr(), From: r.source, Device: r.device}
	if protocol, ok := transport(r.Target.Module.Kind); ok {
		q.Protocol, q.Port = uint8(protocol), r.Result.Peer.Port()
	} else if r.Target.Module.Kind == probe.KindICMP {
		q.Protocol = pings(q.To)
	}
	found, err := h.Route(q)
	if err != nil {
		return nil
	}
	return &found
}

// pings returns the IP protocol of pings to an address.
func pings(to netip.Addr) uint8 {
	const icmp, icmp6 = 1, 58 // RFC 792, RFC 4443
	if to.Unmap().Is4() {
		return icmp
	}
	return icmp6
}

// within sets a fact, unless it does not come in time.
func within[T any](ctx context.Context, read func(context.Context) *T, fact **T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
	defer cancel()
	if value, err := beside.Once(ctx, func() (*T, error) { return read(ctx), nil }); err == nil {
		*fact = value
	}
}

// listener returns what this host has at the address that was tried.
func (h *Host) listener(ctx context.Context, r *Report) *Listener {
	if h.Addresses == nil || h.Listening == nil {
		return nil
	}
	var table *socket.Table
	own := ownhost.New(h.Addresses, func() (t *socket.Table, err error) {
		table, err = h.Listening(ctx)
		return table, err
	})
	answer, known := own.Answer(&schedule.Report{Target: r.Target, Result: r.Result})
	if !known {
		return nil
	}
	l := &Listener{Answer: answer}
	for _, other := range table.Listeners {
		same := answer.Listener != nil && other.ListenerID == answer.Listener.ListenerID
		if other.Protocol == answer.Protocol && other.Port == answer.To.Port() && !same {
			l.Others = append(l.Others, other)
		}
	}
	if answer.Listener != nil && h.Owners != nil {
		found := h.Owners(ctx, []socket.Listener{*answer.Listener})
		for _, owned := range found.Owned {
			l.Owners = append(l.Owners, owned.Owner)
		}
		l.Missing, l.Pending = found.Missing, found.Pending > 0
	}
	return l
}

// others tries the other addresses of a name, while its first one is probed.
type others struct {
	of *Request

	once     sync.Once
	cancel   context.CancelFunc
	crew     probe.Crew
	mu       sync.Mutex
	attempts []Attempt
}

// maxOthers bounds how many addresses of a name are tried beside the first.
const maxOthers = 15

// try begins with the addresses of the target's name, and with no others.
func (o *others) try(ctx context.Context, l probe.Lookup) {
	m := o.of.Target.Module
	to, err := probe.ParseAddress(m.Kind, o.of.Target.Address)
	if err != nil || to.Host != l.Host || len(l.Addresses) < 2 || !o.of.AllAddresses && !isStream(m.Kind) {
		return
	}
	o.once.Do(func() {
		port := o.port(ctx, to)
		ctx, o.cancel = context.WithTimeout(ctx, m.Limit())
		for _, addr := range l.Addresses[1:min(len(l.Addresses), maxOthers+1)] {
			to := netip.AddrPortFrom(addr, port)
			o.crew.Go(func() {
				a := Attempt{Address: to, Probed: o.of.AllAddresses}
				if a.Probed {
					if a.Result = o.probe(ctx, l.Host, addr); a.Result.Peer.IsValid() {
						a.Address = a.Result.Peer
					}
				} else {
					a.Result = o.connect(ctx, to)
				}
				o.mu.Lock()
				defer o.mu.Unlock()
				o.attempts = append(o.attempts, a)
			})
		}
	})
}

// connect makes a connection and closes it.
func (o *others) connect(ctx context.Context, to netip.AddrPort) probe.Result {
	start := time.Now()
	a := dial.Attempt{Target: to, Source: o.of.Probe.Source, Device: o.of.Probe.Device, Allow: o.of.Probe.Allow}
	conn, failed := a.Connect(ctx)
	result := probe.Result{Peer: to}
	if failed != nil {
		result = failed.Result(to)
	} else {
		_ = conn.Close()
	}
	result.Duration = time.Since(start)
	return result
}

// probe has the module probe one address of the name, under that name.
func (o *others) probe(ctx context.Context, host string, addr netip.Addr) probe.Result {
	request := o.of.Probe
	request.Address = withHost(o.of.Target.Module.Kind, o.of.Target.Address, addr)
	if request.Hostname = o.of.Target.Hostname; request.Hostname == "" && takesHostname(o.of.Target.Module.Kind) {
		request.Hostname = host
	}
	return o.of.Target.Module.Probe(ctx, request)
}

// wait returns every address that was tried, that of the module's result first; none if
// the name has one only.
func (o *others) wait(first *probe.Result) []Attempt {
	o.crew.Wait()
	if o.cancel != nil {
		o.cancel()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	all := slices.DeleteFunc(o.attempts, func(a Attempt) bool { return a.Address == first.Peer })
	if len(all) == 0 || !first.Peer.IsValid() {
		return nil
	}
	slices.SortFunc(all, func(a, b Attempt) int { return a.Address.Compare(b.Address) })
	return append([]Attempt{{Address: first.Peer, Result: *first, Probed: true}}, all...)
}

// port returns the port of the target; 0 if it has none.
func (o *others) port(ctx context.Context, to probe.Address) uint16 {
	if n := to.Number(); n >= 0 {
		return uint16(n)
	}
	n, _ := dial.Resolution{}.LookUpPort(ctx, "ip", to.Port)
	return n
}

// isStream reports whether a kind of prober connects by TCP.
func isStream(kind string) bool {
	switch kind {
	case probe.KindTCP, probe.KindHTTP, probe.KindGRPC, probe.KindWebSocket:
		return true
	default:
		return false
	}
}

// takesHostname reports whether a kind of prober calls the target by a name.
func takesHostname(kind string) bool { return isStream(kind) }

// withHost returns the address of a target with an IP address in place of its host.
func withHost(kind, address string, host netip.Addr) string {
	to, err := probe.ParseAddress(kind, address)
	switch {
	case err != nil:
		return address
	case to.URL != nil && to.Port == "":
		u := *to.URL
		u.Host = host.String()
		if host.Is6() {
			u.Host = "[" + u.Host + "]"
		}
		return u.String()
	case to.URL != nil:
		u := *to.URL
		u.Host = net.JoinHostPort(host.String(), to.Port)
		return u.String()
	case to.Port == "":
		return host.String()
	default:
		return net.JoinHostPort(host.String(), to.Port)
	}
}
