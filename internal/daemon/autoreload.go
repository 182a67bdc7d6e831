package daemon

import (
	"context"
	"time"

	"github.com/port-exporter/port_exporter/internal/files"
)

// reloadOnChange reloads when a file of the configuration has another content than the one
// in force, and again after a reload that failed, until ctx ends. The same failure is logged
// once.
func (d *daemon) reloadOnChange(ctx context.Context) {
	if d.options.AutoReload == 0 {
		return
	}
	if d.options.ConfigFile == "" {
		d.logger.Warn("flag has no effect", "flag", "--config.enable-auto-reload", "err", "there is no --config.file")
		return
	}
	ticks := time.NewTicker(d.options.AutoReload)
	defer ticks.Stop()
	var failed error
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		changed, err := d.changed(ctx)
		if !changed && failed == nil && err == nil {
			continue
		}
		before := failed
		if failed = d.load(ctx); failed == nil || before == nil || failed.Error() != before.Error() {
			d.logReload(failed)
		}
	}
}

// changed reports whether a file has another content than the configuration in force.
func (d *daemon) changed(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	inForce := d.current.Load().config
	return files.Beside(ctx, d.files, func() (bool, error) { return inForce.Changed(ctx, files.Rules{}) }, d.options.ConfigFile)
}
