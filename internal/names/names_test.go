package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// quiet is a log that keeps nothing.
var quiet = slog.New(slog.DiscardHandler)

func addresses(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func TestBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := map[string][]netip.Addr{"db": addresses("::ffff:192.0.2.2", "192.0.2.1", "fe80::1%eth0")}
		var questions atomic.Int64
		fail := errors.New("no such host")
		book := New(func(_ context.Context, _, host string) ([]netip.Addr, error) {
			questions.Add(1)
			if found := known[host]; found != nil {
				return found, nil
			}
			return nil, fail
		}, time.Now, quiet)
		hosts := []string{"db", "nowhere"}
		check := func(when string, want []netip.Addr, err error, asked int64) {
			t.Helper()
			book.Answers(hosts)
			synctest.Wait()
			got := book.Answers(hosts)
			if !slices.Equal(got["db"].Addresses, want) || !errors.Is(got["db"].Err, err) || !errors.Is(got["nowhere"].Err, fail) || questions.Load() != asked {
				t.Errorf("%s, after %d questions: %v", when, questions.Load(), got)
			}
		}
		if got := book.Answers(hosts); len(got) != 0 {
			t.Errorf("before anybody answered: %v", got)
		}
		first := addresses("192.0.2.1", "192.0.2.2", "fe80::1")
		check("at first", first, nil, 2)
		time.Sleep(maxFailedAge)
		check("what failed is asked for again soon", first, nil, 3)

		known["db"] = addresses("192.0.2.9")
		time.Sleep(maxAge)
		check("a new address stands beside the old ones", addresses("192.0.2.1", "192.0.2.2", "192.0.2.9", "fe80::1"), nil, 5)
		time.Sleep(keep)
		check("until they are half an hour old", addresses("192.0.2.9"), nil, 7)

		delete(known, "db")
		time.Sleep(maxAge)
		check("a failure leaves what was known", addresses("192.0.2.9"), fail, 9)

		book.Keep([]string{"db"})
		if got := book.Answers([]string{"db"}); len(got["db"].Addresses) != 1 {
			t.Errorf("what is kept is forgotten: %v", got)
		}
		book.Keep(nil)
		if got := book.Answers([]string{"db"}); len(got) != 0 {
			t.Errorf("what is not kept is remembered: %v", got)
		}
		synctest.Wait()
	})
}

func TestAddressesOfANameAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		round := 0
		book := New(func(context.Context, string, string) ([]netip.Addr, error) {
			round++
			var all []netip.Addr
			for i := range 50 {
				all = append(all, netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", round, i)))
			}
			return all, nil
		}, time.Now, quiet)
		for range 10 {
			book.Answers([]string{"many"})
			time.Sleep(maxAge)
		}
		book.Answers([]string{"many"})
		synctest.Wait()
		got := book.Answers([]string{"many"})["many"].Addresses // asks for nothing
		if len(got) != maxAddresses {
			t.Errorf("%d addresses, want %d", len(got), maxAddresses)
		}
		for i := range 50 {
			if last := netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", round, i)); !slices.Contains(got, last) {
				t.Errorf("%v, of the last answer, is not there", last)
			}
		}
	})
}

// A name server that does not answer for a name holds up nobody who asks, keeps no
// other name from being found, and is not asked again before it has failed.
func TestSilentNameServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := []string{"db"}
		for i := range atOnce - 1 {
			hosts = append(hosts, fmt.Sprintf("silent%d", i))
		}
		var questions atomic.Int64
		book := New(func(ctx context.Context, _, host string) ([]netip.Addr, error) {
			questions.Add(1)
			if host == "db" {
				return addresses("192.0.2.1"), nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}, time.Now, quiet)
		start := time.Now()
		for range 10 {
			book.Answers(hosts)
		}
		synctest.Wait()
		if got := book.Answers(hosts); len(got["db"].Addresses) != 1 || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), got)
		}
		time.Sleep(timeout + time.Second)
		if got := book.Answers(hosts); !errors.Is(got["silent0"].Err, context.DeadlineExceeded) || questions.Load() != int64(len(hosts)) {
			t.Errorf("after %d questions: %v", questions.Load(), got)
		}
	})
}

// TestPanicIsNoAnswer has look-ups that panic: their host has no answer, is asked for
// again, and takes no slot from others. Each stack is logged.
func TestPanicIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		panics := true
		book := New(func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if panics && host != "db" {
				panic("no legs")
			}
			return addresses("192.0.2.1"), nil
		}, time.Now, slog.New(slog.NewTextHandler(&log, nil)))
		bad := make([]string, 2*atOnce)
		for i := range bad {
			bad[i] = fmt.Sprint("bad", i)
		}
		ask := func() map[string]Answer {
			book.Answers(slices.Concat(bad, []string{"db"}))
			synctest.Wait()
			return book.Answers(slices.Concat(bad, []string{"db"}))
		}
		got := ask()
		if a := got["db"]; a.Err != nil || len(a.Addresses) != 1 {
			t.Errorf("another host: %+v", a)
		}
		if a := got["bad0"]; a.Err == nil || a.Err.Error() != "panic: no legs" {
			t.Errorf("%+v", a)
		}
		if text := log.String(); strings.Count(text, `in="DNS lookup"`) != len(bad) || !strings.Contains(text, "names.TestPanicIsNoAnswer") {
			t.Errorf("logged:\n%s", text)
		}
		panics = false
		time.Sleep(maxFailedAge)
		if a := ask()["bad0"]; a.Err != nil || len(a.Addresses) != 1 {
			t.Errorf("afterwards: %+v", a)
		}
	})
}
