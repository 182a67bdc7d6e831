package collector

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/closed"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// messages are a stream of connections that closed, in one batch.
type messages struct {
	all []socket.Closed
	end chan struct{}
}

func (m *messages) Wait() error {
	<-m.end
	return os.ErrClosed
}

func (m *messages) Take(add func(*socket.Closed)) (taken, malformed int, err error) {
	for i := range m.all {
		add(&m.all[i])
	}
	taken, malformed = len(m.all), min(len(m.all), 1)
	m.all = nil
	return taken, malformed, nil
}

func (m *messages) Room() int { return 100 }

func (m *messages) Lost() (uint64, error) { return 7, nil }

func (m *messages) Close() error {
	close(m.end)
	return nil
}

func ended(local, remote string, change func(*socket.Closed)) socket.Closed {
	c := socket.Closed{Socket: made(socket.TCP, socket.Close, local, remote), TCPInfo: socket.TCPInfo{Established: true, KnowsStalled: true}}
	change(&c)
	return c
}

// quietDestination is watched, and nothing failed towards it.
var quietDestination = socket.Watched{Network: netip.MustParsePrefix("10.0.0.7/32"), Ports: []socket.PortRange{{First: 5432, Last: 5432}}}

// storyClosed has connections of a listener, of one that is gone and of a port that
// has none, outbound ones on more ports than have series, and failures.
func storyClosed(t *testing.T) func() (Closed, error) {
	plain := func(c *socket.Closed) {
		c.Received, c.Sent, c.SegmentsSent = 10, 20, 3
		c.RoundTrip, c.MinRoundTrip = 700*time.Microsecond, 300*time.Microsecond
	}
	all := []socket.Closed{
		ended("10.0.0.5:443", "192.0.2.7:50000", func(c *socket.Closed) {
			c.Received, c.Sent, c.SegmentsSent, c.SegmentsRetransmitted = 1000, 5000, 40, 4
			c.Stalled, c.LimitedByReceiver, c.LimitedBySendBuffer = 1500*time.Millisecond, 2*time.Second, 250*time.Millisecond
			c.RoundTrip, c.MinRoundTrip = 40*time.Millisecond, 20*time.Millisecond
		}),
		ended("10.0.0.5:443", "192.0.2.7:50001", plain),
		ended("10.0.0.5:8080", "192.0.2.7:50001", plain),
		ended("10.0.0.5:9090", "192.0.2.7:50002", plain),
		ended("10.0.0.5:40000", "10.0.0.9:80", plain),
		ended("10.0.0.5:40001", "10.0.0.9:81", plain),
		ended("10.0.0.5:40002", "10.0.0.9:82", plain),
		ended("0.0.0.0:40003", "10.0.0.9:0", func(c *socket.Closed) { c.Wiped = true }),
		ended("0.0.0.0:40004", "10.0.0.9:0", func(c *socket.Closed) { c.Wiped, c.Established = true, false }),
		ended("10.0.0.5:40005", "10.0.0.9:5432", func(c *socket.Closed) { c.Established, c.SegmentsReceived = false, 1 }),
		ended("10.0.0.5:40006", "10.0.0.9:5432", func(c *socket.Closed) { c.Established = false }),
		ended("10.0.0.5:40007", "10.0.0.9:6379", func(c *socket.Closed) { c.Established = false }),
		ended("10.0.0.5:40008", "10.0.0.9:6380", func(c *socket.Closed) { c.Established = false }),
	}
	then := append(stories["closed"][:2:2], made(socket.TCP, socket.Listen, "10.0.0.5:8080", ""))
	reader := socket.Reader{Source: then, EphemeralPorts: options(nil).EphemeralPorts}
	stream := &messages{all: all, end: make(chan struct{})}
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	book := closed.New(closed.Limits{Listeners: 100, OutboundPorts: 2, Destinations: 2, WatchedDestinations: 3}, reader.Listening, now)
	recorder := closed.Start(t.Context(), stream, book, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = recorder.Close() })
	return func() (Closed, error) { return recorder, nil }
}

// TestClosedFailsAlone is a system without messages.
func TestClosedFailsAlone(t *testing.T) {
	o := options(stories["web_server"])
	o.Closed = func() (Closed, error) { return nil, errors.ErrUnsupported }
	got := exposition(t, t.Context(), o, Filter{})
	if !strings.Contains(got, `port_scrape_collector_success{collector="closed"} 0`) || !strings.Contains(got, `port_scrape_collector_success{collector="sockets"} 1`) ||
		strings.Contains(got, "port_closed") {
		t.Errorf("got\n%s", got)
	}
}

// TestOthersBeforeTheFirstEnd has connections that are open, of which none has ended yet:
// were their series not there before that, all they have done until then would not count
// as an increase.
func TestOthersBeforeTheFirstEnd(t *testing.T) {
	some := &closed.Counters{Sent: 7}
	for _, tt := range []struct {
		report closed.Report
		want   int
	}{
		{closed.Report{OtherInbound: some, OtherOutbound: some, Wiped: &closed.Counters{}}, 1},
		{closed.Report{OtherInbound: &closed.Counters{}, OtherOutbound: &closed.Counters{}, Wiped: &closed.Counters{}}, 0},
	} {
		var out Output
		addClosedInbound(&out, &tt.report)
		addClosedOutbound(&out, &tt.report)
		for _, f := range []*Family{inboundClosed.sent, outboundClosed.sent} {
			if got := len(out.family(f).Metric); got != tt.want {
				t.Errorf("%d series of the others, want %d: %+v", got, tt.want, out.family(f))
			}
		}
	}
}

// TestNativeHistogram compares the native buckets with those of client_golang.
func TestNativeHistogram(t *testing.T) {
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Help: "x", Buckets: closed.Classic[:], NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: 1e-9})
	ours := closed.Histogram{}
	for d := time.Microsecond; d < time.Minute; d = d*21/20 + time.Microsecond {
		theirs.Observe(d.Seconds())
		ours.Observe(d)
	}
	for _, d := range []time.Duration{time.Millisecond, time.Second, time.Second, 8 * time.Second} { // bounds
		theirs.Observe(d.Seconds())
		ours.Observe(d)
	}
	var m dto.Metric
	if err := theirs.Write(&m); err != nil {
		t.Fatal(err)
	}
	var out Output
	out.addHistogram(inboundClosed.roundTrip, &ours, nil)
	got, want := out.family(inboundClosed.roundTrip).Metric[0].Histogram, m.Histogram
	if got.GetSampleCount() != want.GetSampleCount() || got.GetSchema() != want.GetSchema() {
		t.Errorf("%d, schema %d; want %d, %d", got.GetSampleCount(), got.GetSchema(), want.GetSampleCount(), want.GetSchema())
	}
	if g, w := counts(got), counts(want); len(g) != len(w) {
		t.Errorf("%d buckets, want %d", len(g), len(w))
	} else {
		for index, n := range w {
			if g[index] != n {
				t.Errorf("bucket %d: %d, want %d", index, g[index], n)
			}
		}
	}
	for i, b := range want.Bucket {
		if got.Bucket[i].GetCumulativeCount() != b.GetCumulativeCount() {
			t.Errorf("le %v: %d, want %d", b.GetUpperBound(), got.Bucket[i].GetCumulativeCount(), b.GetCumulativeCount())
		}
	}
}

// counts returns the native buckets by index.
func counts(h *dto.Histogram) map[int32]int64 {
	all := map[int32]int64{}
	index, n, next := int32(0), int64(0), 0
	for _, span := range h.PositiveSpan {
		index += span.GetOffset()
		for range span.GetLength() {
			n += h.PositiveDelta[next]
			if n != 0 {
				all[index] = n
			}
			next++
			index++
		}
	}
	return all
}
