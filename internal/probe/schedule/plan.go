package schedule

import (
	"errors"
	"hash/fnv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
)

// Plan is what one configuration wants probed, and lets be probed. It is not
// changed once a [Runner] uses it.
type Plan struct {
	Targets []probe.Target
	Modules map[string]*probe.Module
	Access  access.Control
	// MaxProbes is how many probes may be in flight in the whole process; zero is
	// [DefaultMaxProbes].
	MaxProbes int
	// OnRequest leaves the targets that have an interval alone: they are probed when
	// somebody asks, as all others are.
	OnRequest bool

	keys    []string
	records []*record
	// The targets of each scrape, as indices into Targets: heavy probes and the
	// others.
	heavy, light []int
	configured   map[identity]int // index of the target, from 1
	anyHostname  map[identity]int // the same for the first one, whatever its hostname
}

// DefaultMaxProbes is how many probes may be in flight: with 50 a loopback target
// is answered in 3 ms, with 1000 in half a second, and with 10,000 healthy
// targets seem to time out.
const DefaultMaxProbes = 128

// heavyShare is the part of the slots that probes with TLS may take.
const heavyShare = 4

// prepare fills in what follows from the targets.
func (p *Plan) prepare() {
	p.keys = make([]string, len(p.Targets))
	p.configured = make(map[identity]int, len(p.Targets))
	p.anyHostname = make(map[identity]int, len(p.Targets))
	for i := range p.Targets {
		t := &p.Targets[i]
		p.keys[i] = keyOf(t)
		note := func(index map[identity]int, id identity) {
			if index[id] == 0 {
				index[id] = i + 1
			}
		}
		note(p.configured, identity{t.Address, t.Module.Name, t.Hostname, t.Netns})
		note(p.anyHostname, identity{t.Address, t.Module.Name, "", t.Netns})
		switch {
		case t.Interval > 0:
		case t.Module.Heavy():
			p.heavy = append(p.heavy, i)
		default:
			p.light = append(p.light, i)
		}
	}
}

// identity is what a request names of a configured target.
type identity struct{ address, module, hostname, netns string }

// find returns the index of the configured target that a request is for. A hostname has to be
// the configured one, or the target's own host where none is configured. Without
// one it is the target that has none, else the first with that address and module. The
// network namespace has to be the configured one.
func (p *Plan) find(a Ask) (int, bool) {
	id := identity{a.Target, a.Module.Name, a.Hostname, a.Netns}
	i := p.configured[id]
	if i == 0 && access.HostnameOf(a.Module.Kind, a.Target, a.Hostname) == "" {
		id.hostname = ""
		i = p.configured[id]
	}
	if i == 0 && a.Hostname == "" {
		i = p.anyHostname[id]
	}
	return i - 1, i > 0
}

// keyOf returns the identity of a target: what its series have for labels.
func keyOf(t *probe.Target) string {
	parts := []string{t.Address, t.Module.Name, t.Name}
	if t.Netns != "" {
		parts = append(parts, "netns", t.Netns)
	}
	for _, l := range t.Labels {
		parts = append(parts, l.Name, l.Value)
	}
	return strings.Join(parts, "\xff") // in no UTF-8 text
}

// offsetOf returns how far into its interval a target is probed: targets with the same
// interval are spread over it, and a target is at the same place after a
// restart.
func offsetOf(t *probe.Target) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(keyOf(t)))
	return time.Duration(h.Sum64() % uint64(t.Interval))
}

// nextTurn returns when a target is to be probed next.
func nextTurn(t *probe.Target, now time.Time) time.Time {
	into := (time.Duration(now.UnixNano()) - offsetOf(t)) % t.Interval
	if into < 0 {
		into += t.Interval
	}
	return now.Add(t.Interval - into)
}

// firstWithin is how long after the start, or after the reload that it came with,
// a target in the background has its first turn at the latest, if a slot is free.
// With much less all would come together.
const firstWithin = 30 * time.Second

// firstTurn returns when a target that was never probed is to be.
func firstTurn(t *probe.Target, now time.Time) time.Time {
	return now.Add(offsetOf(t) % min(t.Interval, firstWithin))
}

// Crowd is what of the targets of a scrape waits for the same slots.
type Crowd struct {
	Targets, Slots int
	// Longest is the longest timeout among them, and Silence how long they take
	// together at least when none of them answers.
	Longest, Silence time.Duration
}

// Crowds returns all targets that are probed on each scrape, and those of them
// whose probes are heavy and have a part of the slots only.
func Crowds(targets []probe.Target, slots int) (all, heavy Crowd) {
	all.Slots, heavy.Slots = max(slots, 1), max(slots/heavyShare, 1)
	for _, t := range targets {
		if t.Module == nil || t.Interval > 0 {
			continue
		}
		all.add(t.Module)
		if t.Module.Heavy() {
			heavy.add(t.Module)
		}
	}
	for _, c := range []*Crowd{&all, &heavy} {
		c.Silence = max(c.Longest, c.Silence/time.Duration(c.Slots))
	}
	return all, heavy
}

func (c *Crowd) add(m *probe.Module) {
	c.Targets++
	c.Longest = max(c.Longest, m.Limit())
	c.Silence += m.Limit()
}

// Tally counts the outcomes of the probes of one target, or of one kind. It is
// safe for concurrent use.
type Tally struct {
	counts [probe.NumOutcomes]atomic.Uint64
}

// Add counts one.
func (t *Tally) Add(o probe.Outcome) {
	if o >= probe.NumOutcomes {
		o = probe.Unknown
	}
	t.counts[o].Add(1)
}

// Count returns how often an outcome came.
func (t *Tally) Count(o probe.Outcome) uint64 { return t.counts[o].Load() }

// Report is what is known of a target.
type Report struct {
	Target *probe.Target
	Result probe.Result
	// At is when the probe ended; zero when there was none yet.
	At time.Time
	// Tally counts the outcomes since the exporter saw the target first.
	Tally *Tally
}

// What a result that is no probe's says.
var (
	errNoTime    = errors.New("no time was left in this scrape, or no slot came free in it\nhint: give the target an interval, or raise the scrape timeout")
	errNotYet    = errors.New("its first probe in the background is still to come")
	errCutShort  = errors.New("the scrape ended before the probe had a fair time")
	errUnderWay  = errors.New("the probe was still under way when the scrape ended")
	errStopping  = errors.New("the exporter stops")
	errAbandoned = errors.New("no client is waiting for the result")
)

func notRun(why error) probe.Result { return probe.Result{Outcome: probe.NotRun, Err: why} }
