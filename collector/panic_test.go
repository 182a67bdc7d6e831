package collector

import (
	"bytes"
	"context"
	"iter"
	"log/slog"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// clumsy is a host whose connections cannot be read without a panic.
type clumsy struct{ socket.Source }

func (c clumsy) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	if want.Has(socket.Established) {
		panic("no legs")
	}
	return c.Source.Sockets(ctx, want)
}

// TestPanicFailsItsCollector keeps a panic to the collectors that need what
// panicked; its stack is logged.
func TestPanicFailsItsCollector(t *testing.T) {
	o := options(clumsy{stories["web_server"]})
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	got := exposition(t, t.Context(), o, Filter{})
	for _, want := range []string{
		`port_scrape_collector_success{collector="connections"} 0`, `port_scrape_collector_success{collector="listeners"} 1`, "port_listener_info{",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %s", want)
		}
	}
	if text := log.String(); !strings.Contains(text, "in=\"collector ") || !strings.Contains(text, "no legs") || !strings.Contains(text, "clumsy.Sockets") {
		t.Errorf("logged:\n%s", text)
	}
}
