package logs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// stuck is a reader of a log that takes nothing until it is released.
type stuck struct {
	released chan struct{}
	porttest.Log
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.released
	return s.Log.Write(p)
}

// TestLogQueueNeverWaits fills a log that nothing reads: what there is no room for
// is dropped and counted, and the rest is written in order when it is read again.
func TestLogQueueNeverWaits(t *testing.T) {
	const more = 100
	to := &stuck{released: make(chan struct{})}
	q := NewQueue(to)
	for i := range maxLogLines + more {
		fmt.Fprintf(q, "line %d\n", i)
	}
	if n := q.Dropped(); n < more-1 || n > more { // the writer may hold one
		t.Errorf("%d lines were dropped, want %d", n, more)
	}
	began := time.Now()
	q.Close()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to close", took)
	}
	dropped := q.Dropped()
	fmt.Fprintln(q, "after the end")
	if q.Dropped() != dropped+1 {
		t.Error("a line after the end is not counted")
	}
	close(to.released)
	porttest.Await(t, "the rest", func() bool { return strings.Contains(to.String(), fmt.Sprintf("line %d\n", maxLogLines-1)) })
	if !strings.HasPrefix(to.String(), "line 0\nline 1\n") {
		t.Errorf("it begins with %.40q", to.String())
	}
}

func TestLogQueueCutsLongLines(t *testing.T) {
	to := &porttest.Log{}
	q := NewQueue(to)
	fmt.Fprintln(q, strings.Repeat("x", 2*maxLogLine))
	q.Close()
	if got := to.String(); len(got) != maxLogLine || !strings.HasSuffix(got, "x\n") {
		t.Errorf("%d bytes", len(got))
	}
}

type noReader struct{}

func (noReader) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestLogQueueCountsWhatCannotBeWritten(t *testing.T) {
	q := NewQueue(noReader{})
	fmt.Fprintln(q, "a")
	fmt.Fprintln(q, "b")
	q.Close()
	if q.Dropped() != 2 {
		t.Errorf("%d lines, want 2", q.Dropped())
	}
}
