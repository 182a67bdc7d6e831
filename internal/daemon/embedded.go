package daemon

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
)

// Embedded is a daemon within another program: it serves nothing and changes nothing of
// the process.
type Embedded struct{ daemon *daemon }

// Embed returns a daemon with a configuration. Of the options it heeds those about the
// source, the collectors and the limits of scrapes. It is to be closed.
func Embed(ctx context.Context, o Options, c *config.Config, logger *slog.Logger) (*Embedded, error) {
	d, err := assemble(ctx, o, logger)
	if err != nil {
		return nil, err
	}
	d.begin(ctx, c)
	return &Embedded{d}, nil
}

// Scrape returns a scrape of everything, which ends with ctx.
func (e *Embedded) Scrape(ctx context.Context) (prometheus.Gatherer, error) {
	return e.daemon.current.Load().exporter.Scrape(ctx, collector.Filter{})
}

// Close ends what runs in the background.
func (e *Embedded) Close() { e.daemon.close() }
