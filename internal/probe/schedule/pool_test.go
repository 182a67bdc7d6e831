package schedule

import (
	"context"
	"sync"
	"sync/atomic"
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
			c := class(i % int(numClasses))
			for j := range 500 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i+j)%7)*time.Microsecond)
				if p.enter(ctx, c) == nil {
					if p.inUse() > 5 {
						t.Error("more slots are taken than there ever are")
					}
					p.leave(c)
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
	if p.inUse() != 0 || p.waiting[scheduled].Len()+p.waiting[requested].Len() != 0 {
		t.Errorf("%d slots are taken and %d wait", p.inUse(), p.waiting[scheduled].Len()+p.waiting[requested].Len())
	}
	for range 3 {
		if err := p.enter(t.Context(), scheduled); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPoolIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{size: 1}
		if err := p.enter(t.Context(), scheduled); err != nil {
			t.Fatal(err)
		}
		var order []int
		for i := range 5 {
			go func() {
				if p.enter(t.Context(), scheduled) == nil {
					order = append(order, i)
					p.leave(scheduled)
				}
			}()
			synctest.Wait()
		}
		p.leave(scheduled)
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

// TestPoolGivesRequestsAShare has requests that come first and would take all.
func TestPoolGivesRequestsAShare(t *testing.T) {
	for size, share := range map[int]int{1: 1, 3: 1, 4: 1, 8: 2, 128: 32} {
		synctest.Test(t, func(t *testing.T) {
			p := &pool{size: size}
			var entered [numClasses]atomic.Int32
			ctx, stop := context.WithCancel(t.Context())
			want := func(c class, n int) {
				for range n {
					go func() {
						if p.enter(ctx, c) == nil {
							entered[c].Add(1)
						}
					}()
				}
				synctest.Wait()
			}
			want(requested, 2*size)
			if n := int(entered[requested].Load()); n != share {
				t.Errorf("%d slots: requests have %d, want %d", size, n, share)
			}
			want(scheduled, size)
			if n := int(entered[scheduled].Load()); n != size-share {
				t.Errorf("%d slots: the others have %d, want %d", size, n, size-share)
			}
			p.leave(requested)
			synctest.Wait()
			if s, r := int(entered[scheduled].Load()), int(entered[requested].Load()); s != size-share+1 || r != share {
				t.Errorf("%d slots: a slot that came free went to a request: %d and %d", size, s, r)
			}
			stop()
		})
	}
}
