package schedule

import (
	"log/slog"
	"strings"
	"sync"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// logbookSize bounds what is kept of the log of one probe, in bytes.
const logbookSize = 32 << 10

// Logbook takes the log of one probe on request. It is bounded and safe for
// concurrent use, and its zero value is empty.
type Logbook struct {
	mu  sync.Mutex
	b   strings.Builder
	cut bool
}

// Write implements io.Writer.
func (l *Logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len()+len(p) > logbookSize {
		l.cut = true
	} else {
		l.b.Write(p)
	}
	return len(p), nil
}

// Logger returns what writes into it.
func (l *Logbook) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Text returns the log of a probe of the address, without its password.
func (l *Logbook) Text(address string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.b.String()
	if l.cut {
		text += "… and more, which is left out\n"
	}
	return probe.Redact(text, address)
}
