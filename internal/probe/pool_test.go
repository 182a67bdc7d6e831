package probe

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPoolUnderFire enters, gives up and leaves from all sides: no slot may be
// lost and none invented.
func TestPoolUnderFire(t *testing.T) {
	p := &pool{size: 3}
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for j := range 500 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i+j)%7)*time.Microsecond)
				if p.enter(ctx) == nil {
					if p.inUse() > 5 {
						t.Error("more slots are taken than there ever are")
					}
					p.leave()
				}
				cancel()
				if j%50 == 0 {
					p.resize(1 + (i+j)%5)
				}
			}
		})
	}
	all.Wait()
	p.resize(3)
	if p.inUse() != 0 || p.waiting.Len() != 0 {
		t.Errorf("%d slots are taken and %d wait", p.inUse(), p.waiting.Len())
	}
	for range 3 {
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPoolIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{size: 1}
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []int
		for i := range 5 {
			go func() {
				if p.enter(t.Context()) == nil {
					order = append(order, i)
					p.leave()
				}
			}()
			synctest.Wait()
		}
		p.leave()
		synctest.Wait()
		for i, n := range order {
			if i != n {
				t.Errorf("the order is %v", order)
				break
			}
		}
		if len(order) != 5 {
			t.Errorf("%d of 5 got a slot", len(order))
		}
	})
}
