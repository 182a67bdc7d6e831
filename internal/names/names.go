// Package names remembers the addresses of host names, and looks them up beside
// whoever asks: no caller waits for a name server.
package names

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/panics"
)

const (
	maxAge       = time.Minute      // of an answer, before it is asked for again
	maxFailedAge = 10 * time.Second // of a failure, likewise
	keep         = 30 * time.Minute // of an address that is in no answer any more
	maxAddresses = 64               // of a name
	timeout      = 5 * time.Second  // of a question
	atOnce       = 16               // questions
)

// Lookup finds the addresses of a host, as net.Resolver.LookupNetIP does.
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Book has the addresses of some hosts. It is safe for concurrent use.
type Book struct {
	lookup Lookup
	now    func() time.Time
	logger *slog.Logger
	slots  chan struct{}

	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	asking   bool
	asked    time.Time
	answered bool // once at least
	err      error
	seen     map[netip.Addr]time.Time // when an address was last in an answer
}

// Answer is what is known of a host.
type Answer struct {
	// Addresses are those of the answers of the last half hour, sorted: a name
	// whose addresses take turns has them all, and one whose server is away for a
	// while keeps its own.
	Addresses []netip.Addr
	// Err is why the last question had no answer; nil if it had one.
	Err error
}

// New returns a book that knows nothing yet. It logs panics of lookup.
func New(lookup Lookup, now func() time.Time, logger *slog.Logger) *Book {
	return &Book{lookup: lookup, now: now, logger: logger, slots: make(chan struct{}, atOnce), entries: map[string]*entry{}}
}

// Keep forgets all but these hosts.
func (b *Book) Keep(hosts []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.entries, func(host string, _ *entry) bool { return !slices.Contains(hosts, host) })
}

// Answers returns what is known now of some hosts, without those that were never
// answered for, and begins to ask for those whose answer is old.
func (b *Book) Answers(hosts []string) map[string]Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	answers := make(map[string]Answer, len(hosts))
	for _, host := range hosts {
		e := b.entries[host]
		if e == nil {
			e = &entry{seen: map[netip.Addr]time.Time{}}
			b.entries[host] = e
		}
		if !e.asking && e.isOld(now) {
			e.asking, e.asked = true, now
			go b.ask(host, e)
		}
		if e.answered {
			answers[host] = e.answer()
		}
	}
	return answers
}

func (e *entry) isOld(now time.Time) bool {
	age := now.Sub(e.asked)
	return !e.answered || age >= maxAge || e.err != nil && age >= maxFailedAge
}

func (e *entry) answer() Answer {
	return Answer{slices.SortedFunc(maps.Keys(e.seen), netip.Addr.Compare), e.err}
}

// ask asks for a host when one of the few slots is free, so that a name server
// that does not answer for some names does not keep others from being found.
func (b *Book) ask(host string, e *entry) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	defer b.recovered(host, e)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	addresses, err := b.lookup(ctx, "ip", host)
	b.mu.Lock()
	defer b.mu.Unlock()
	e.note(b.now(), addresses, err)
}

// recovered makes a panic the failure of one question: it must not end the daemon.
func (b *Book) recovered(host string, e *entry) {
	err := panics.Recovered(recover())
	if err == nil {
		return
	}
	panics.Log(b.logger.With("host", host), "DNS lookup", err)
	b.mu.Lock()
	defer b.mu.Unlock()
	e.note(b.now(), nil, err)
}

func (e *entry) note(now time.Time, addresses []netip.Addr, err error) {
	e.asking, e.answered, e.err = false, true, err
	if err != nil {
		return
	}
	maps.DeleteFunc(e.seen, func(_ netip.Addr, last time.Time) bool { return now.Sub(last) > keep })
	for _, a := range addresses[:min(len(addresses), maxAddresses)] {
		e.seen[a.Unmap().WithZone("")] = now
	}
	for len(e.seen) > maxAddresses {
		delete(e.seen, e.oldest())
	}
}

// oldest returns the address that was in no answer for the longest: a name whose
// addresses go round keeps those that it has now.
func (e *entry) oldest() netip.Addr {
	return slices.MinFunc(slices.Collect(maps.Keys(e.seen)), func(a, b netip.Addr) int {
		return cmp.Or(e.seen[a].Compare(e.seen[b]), a.Compare(b))
	})
}
