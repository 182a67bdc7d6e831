package schedule

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

func TestHistoryKeepsFailures(t *testing.T) {
	h := newHistory(10)
	m := &probe.Module{Name: "tcp", Kind: probe.KindTCP}
	add := func(o probe.Outcome) uint64 {
		return h.add(Entry{Report: Report{Target: &probe.Target{Address: "a:1", Module: m}, Result: probe.Result{Outcome: o}, At: time.Now()}})
	}
	failed := add(probe.Refused)
	passed := add(probe.Open)
	for range 25 {
		add(probe.Open)
	}
	if e, ok := h.Entry(failed); !ok || e.Result.Outcome != probe.Refused {
		t.Errorf("the failure was forgotten: %v", e)
	}
	if _, ok := h.Entry(passed); ok {
		t.Error("an old success is still there")
	}
	entries := h.Entries()
	if len(entries) != 11 || entries[0].ID != 27 || entries[10].ID != failed {
		t.Errorf("%d entries, the first %d", len(entries), entries[0].ID)
	}
	for range 100 {
		add(probe.Timeout)
	}
	if n := len(h.Entries()); n != 20 {
		t.Errorf("%d entries, want 20", n)
	}
	if _, ok := h.Entry(0); ok {
		t.Error("there is an entry 0")
	}
}

// TestHistoryKeepsNoMoreThanItShows has probes whose texts and errors come with
// much behind them: a request's line, a certificate, a page of a server.
func TestHistoryKeepsNoMoreThanItShows(t *testing.T) {
	h := newHistory(historyLimit)
	m := &probe.Module{Name: "tcp", Kind: probe.KindTCP}
	const size = 1 << 20
	before := porttest.HeapInUse()
	for i := range historyLimit {
		whole := strings.Repeat(string(rune('a'+i%26)), size)
		h.add(Entry{Log: whole[:9], Report: Report{
			Target: &probe.Target{Address: whole[:10], Hostname: whole[:11], Module: m},
			Result: probe.Result{Outcome: probe.Refused, Err: errors.New(whole), Samples: []probe.Sample{{Metric: &probe.Metric{Name: "probe_expect_info"}, Labels: []string{whole}}}},
		}})
	}
	if grown := porttest.HeapInUse() - before; grown > historyLimit*size/10 {
		t.Errorf("%d probes take %d MB", historyLimit, grown>>20)
	}
	e, _ := h.Entry(1)
	if text := e.Result.Err.Error(); len(text) > maxKept+10 || !strings.HasPrefix(text, "aaaa") || !strings.HasSuffix(text, "…") {
		t.Errorf("the error has %d bytes", len(text))
	}
	if value := e.Result.Samples[0].Labels[0]; e.Target.Address != "aaaaaaaaaa" || e.Target.Hostname != "aaaaaaaaaaa" || e.Log != "aaaaaaaaa" || !strings.HasPrefix(value, "aaaa") {
		t.Errorf("%+v", e.Target)
	}
	h.add(Entry{Report: Report{Target: &probe.Target{Module: m}, Result: probe.Result{Err: errors.New(strings.Repeat("é", maxKept))}}})
	if e := h.Entries()[0]; !utf8.ValidString(e.Result.Err.Error()) {
		t.Error("a character is cut in two")
	}
}

func TestDue(t *testing.T) {
	target := probe.Target{Address: "a:1", Module: &probe.Module{Name: "tcp"}, Interval: 30 * time.Second}
	now := time.Unix(1_800_000_000, 12345)
	due := nextTurn(&target, now)
	if wait := due.Sub(now); wait <= 0 || wait > target.Interval {
		t.Errorf("due in %v", wait)
	}
	if next := nextTurn(&target, due); next.Sub(due) != target.Interval {
		t.Errorf("then %v later", next.Sub(due))
	}
	if again := nextTurn(&target, due.Add(-time.Nanosecond)); !again.Equal(due) {
		t.Errorf("just before it is due at %v, not %v", again, due)
	}
	if old := time.Unix(-5, 0); nextTurn(&target, old).Sub(old) > target.Interval {
		t.Errorf("before the epoch: %v", nextTurn(&target, old))
	}
}

func TestLogbookIsBounded(t *testing.T) {
	var log Logbook
	logger := log.Logger()
	for range 10_000 {
		logger.Debug("again and again")
	}
	if text := log.Text("a:1"); len(text) > logbookSize+100 || !strings.Contains(text, "left out") {
		t.Errorf("%d bytes", len(text))
	}
}
