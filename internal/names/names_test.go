package names

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addresses := map[string][]netip.Addr{"db": {netip.MustParseAddr("::ffff:192.0.2.2"), netip.MustParseAddr("192.0.2.1")}}
		var questions atomic.Int64
		fail := errors.New("no such host")
		book := New([]string{"db", "nowhere"}, func(_ context.Context, _, host string) ([]netip.Addr, error) {
			questions.Add(1)
			if found := addresses[host]; found != nil {
				return found, nil
			}
			return nil, fail
		}, time.Now)
		if got := book.Answers(); len(got) != 0 {
			t.Errorf("before anybody answered: %v", got)
		}
		synctest.Wait()
		got := book.Answers()
		want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
		if !slices.Equal(got["db"].Addresses, want) || got["db"].Err != nil || !errors.Is(got["nowhere"].Err, fail) {
			t.Errorf("answers %v", got)
		}
		synctest.Wait()
		if n := questions.Load(); n != 2 {
			t.Errorf("%d questions within a minute, want 2", n)
		}

		delete(addresses, "db")
		time.Sleep(maxAge)
		book.Answers()
		synctest.Wait()
		got = book.Answers()
		if !slices.Equal(got["db"].Addresses, want) || !errors.Is(got["db"].Err, fail) || questions.Load() != 4 {
			t.Errorf("after %d questions: %v; a failure must leave the last answer", questions.Load(), got)
		}
	})
}

// A name server that does not answer for a name holds up nobody who asks, keeps no
// other name from being found, and is not asked again before it has failed.
func TestSilentNameServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hosts []string
		for range atOnce - 1 {
			hosts = append(hosts, "silent")
		}
		hosts = append(hosts, "db", "db")
		var questions atomic.Int64
		book := New(hosts, func(ctx context.Context, _, host string) ([]netip.Addr, error) {
			questions.Add(1)
			if host == "db" {
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}, time.Now)
		start := time.Now()
		for range 10 {
			book.Answers()
		}
		synctest.Wait()
		if got := book.Answers(); len(got["db"].Addresses) != 1 || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), got)
		}
		time.Sleep(timeout + time.Second)
		if got := book.Answers(); !errors.Is(got["silent"].Err, context.DeadlineExceeded) || questions.Load() != int64(len(hosts)) {
			t.Errorf("after %d questions: %v", questions.Load(), got)
		}
	})
}
