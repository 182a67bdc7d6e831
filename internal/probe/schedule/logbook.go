package schedule

import (
	"log/slog"
	"strings"
	"sync"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// logbookSize bounds what is kept of the log of one probe, in bytes.
const logbookSize = 32 << 10

// logbook takes the log of one probe on request. It is bounded and safe for
// concurrent use.
type logbook struct {
	mu  sync.Mutex
	b   strings.Builder
	cut bool
}

// Write implements io.Writer.
func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len()+len(p) > logbookSize {
		l.cut = true
	} else {
		l.b.Write(p)
	}
	return len(p), nil
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// text returns the log of a probe of the address, without its password.
func (l *logbook) text(address string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.b.String()
	if l.cut {
		text += "… and more, which is left out\n"
	}
	return probe.Redact(text, address)
}
