package schedule

import (
	"container/list"
	"context"
	"sync"
)

// class is who wants a probe.
type class uint8

// The classes, those that go first in front.
const (
	scheduled class = iota // a scrape, or the background
	requested              // a client
	numClasses
)

// requestShare is the part of the slots that requests may take: whoever can ask
// for probes must not be able to keep the exporter from those it is there for.
const requestShare = 4

// pool has slots for probes. Scheduled ones go first, and requests have a part of
// the slots at most; within a class it is first come, first served. Its size can
// be changed while it is in use. It is safe for concurrent use.
type pool struct {
	mu      sync.Mutex
	size    int
	used    [numClasses]int
	waiting [numClasses]list.List // of chan struct{}, closed when it is the turn of who waits
}

// enter takes a slot. It waits for one until ctx ends.
func (p *pool) enter(ctx context.Context, c class) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	if p.isFree(c) { // then no call with priority waits
		p.used[c]++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	place := p.waiting[c].PushBack(turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-turn: // at the same moment: whoever is next gets it
		p.used[c]--
		p.admit()
	default:
		p.waiting[c].Remove(place)
	}
	return context.Cause(ctx)
}

// leave gives a slot back.
func (p *pool) leave(c class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[c]--
	p.admit()
}

// resize changes the number of slots. Those that are beyond it are taken away
// as they are given back.
func (p *pool) resize(size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = size
	p.admit()
}

// capacity returns how many slots there are.
func (p *pool) capacity() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

// inUse returns how many slots are taken.
func (p *pool) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken()
}

func (p *pool) taken() int { return p.used[scheduled] + p.used[requested] }

// isFree reports whether there is a slot for a class. The caller holds mu.
func (p *pool) isFree(c class) bool {
	if c == requested && p.used[requested] >= max(p.size/requestShare, 1) {
		return false
	}
	return p.taken() < p.size
}

// admit gives free slots to those that wait. The caller holds mu.
func (p *pool) admit() {
	for c := range numClasses {
		for p.waiting[c].Len() > 0 && p.isFree(c) {
			first := p.waiting[c].Front()
			close(p.waiting[c].Remove(first).(chan struct{}))
			p.used[c]++
		}
	}
}
