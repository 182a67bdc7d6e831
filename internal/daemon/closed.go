package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/closed"
)

// recordClosed begins to record closed connections, until endClosed is called. What
// the collector asks for them is in d.closed from then on: an error where there are none.
func (d *daemon) recordClosed(ctx context.Context, limits config.Limits) {
	stream, err := d.system.Closings()
	if errors.Is(err, errors.ErrUnsupported) {
		err = fmt.Errorf("this system does not report closed connections: %w\nhint: requires Linux 4.12 or later, and netlink in a sandbox", err)
	}
	if err != nil {
		d.logger.Error("cannot record closed connections", "err", err)
		d.closed = func() (collector.Closed, error) { return nil, err }
		return
	}
	book := closed.New(closed.Limits{
		Listeners:           limits.Listeners,
		OutboundPorts:       limits.OutboundPorts,
		Destinations:        limits.Destinations,
		WatchedDestinations: limits.WatchedDestinations,
	}, d.system.Reader().Listening, time.Now)
	recorder := closed.Start(context.WithoutCancel(ctx), stream, book, d.logger) // for the last scrapes
	d.closed = func() (collector.Closed, error) { return recorder, nil }
	d.endClosed = func() { _ = recorder.Close() }
}
