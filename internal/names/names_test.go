package names

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		addresses := map[string][]netip.Addr{"db": {netip.MustParseAddr("::ffff:192.0.2.2"), netip.MustParseAddr("192.0.2.1")}}
		questions, fail := 0, errors.New("no such host")
		book := New([]string{"db", "nowhere"}, func(_ context.Context, _, host string) ([]netip.Addr, error) {
			questions++
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
		if questions != 2 {
			t.Errorf("%d questions within a minute, want 2", questions)
		}

		delete(addresses, "db")
		time.Sleep(maxAge)
		book.Answers()
		synctest.Wait()
		got = book.Answers()
		if !slices.Equal(got["db"].Addresses, want) || !errors.Is(got["db"].Err, fail) || questions != 4 {
			t.Errorf("after %d questions: %v; a failure must leave the last answer", questions, got)
		}
	})
}

// A name server that does not answer holds up nobody, and is asked once.
func TestSilentNameServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		questions := 0
		book := New([]string{"a", "b"}, func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
			questions++
			<-ctx.Done()
			return nil, ctx.Err()
		}, time.Now)
		start := time.Now()
		for range 10 {
			book.Answers()
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(timeout + time.Second)
		got := book.Answers()
		if questions != 2 || !errors.Is(got["a"].Err, context.DeadlineExceeded) || !errors.Is(got["b"].Err, context.DeadlineExceeded) {
			t.Errorf("after %d questions: %v", questions, got)
		}
	})
}
