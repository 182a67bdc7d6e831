// Package names remembers the addresses of host names, and looks them up beside
// whoever asks: nobody waits for a name server.
package names

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	maxAge  = time.Minute     // of an answer, before it is asked for again
	timeout = 5 * time.Second // of a question
	atOnce  = 16              // questions
)

// Lookup finds the addresses of a host, as net.Resolver.LookupNetIP does.
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Book has the addresses of some hosts. It is safe for concurrent use.
type Book struct {
	hosts  []string
	lookup Lookup
	now    func() time.Time

	mu      sync.Mutex
	asking  bool
	asked   time.Time // when the last round began
	answers map[string]Answer
}

// Answer is what is known of a host.
type Answer struct {
	// Addresses are those of the last answer that had some, sorted.
	Addresses []netip.Addr
	// Err is why the last question had no answer; nil if it had one.
	Err error
}

// New returns a book that knows nothing yet.
func New(hosts []string, lookup Lookup, now func() time.Time) *Book {
	return &Book{hosts: hosts, lookup: lookup, now: now, answers: map[string]Answer{}}
}

// Answers returns what is known now by host, without those that were never
// answered for, and begins to ask again if that is a minute old.
func (b *Book) Answers() map[string]Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); len(b.hosts) > 0 && !b.asking && now.Sub(b.asked) >= maxAge {
		b.asking, b.asked = true, now
		go b.ask()
	}
	answers := make(map[string]Answer, len(b.answers))
	for host, answer := range b.answers {
		answers[host] = answer
	}
	return answers
}

// ask asks for each host, a few at a time, so that a name server that does not
// answer for one does not keep the others from being found.
func (b *Book) ask() {
	var asking sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, host := range b.hosts {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			addresses, err := b.lookup(ctx, "ip", host)
			b.note(host, addresses, err)
		})
	}
	asking.Wait()
	b.mu.Lock()
	b.asking = false
	b.mu.Unlock()
}

func (b *Book) note(host string, addresses []netip.Addr, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := b.answers[host]
	answer.Err = err
	if err == nil {
		answer.Addresses = nil
		for _, a := range addresses {
			answer.Addresses = append(answer.Addresses, a.Unmap())
		}
		slices.SortFunc(answer.Addresses, netip.Addr.Compare)
	}
	b.answers[host] = answer
}
