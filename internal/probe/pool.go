package probe

import (
	"container/list"
	"context"
	"sync"
)

// pool has slots for probes, which it gives first come, first served. Its size
// can be changed while it is in use. It is safe for concurrent use.
type pool struct {
	mu         sync.Mutex
	size, used int
	waiting    list.List // of chan struct{}, closed when it is the turn of who waits
}

// enter takes a slot. It waits for one until ctx ends.
func (p *pool) enter(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	if p.used < p.size { // then nobody waits
		p.used++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	place := p.waiting.PushBack(turn)
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
		p.used--
		p.admit()
	default:
		p.waiting.Remove(place)
	}
	return context.Cause(ctx)
}

// leave gives a slot back.
func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
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
	return p.used
}

// admit gives free slots to those that wait. The caller holds mu.
func (p *pool) admit() {
	for p.used < p.size && p.waiting.Len() > 0 {
		first := p.waiting.Front()
		close(p.waiting.Remove(first).(chan struct{}))
		p.used++
	}
}
