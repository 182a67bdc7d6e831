package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/promslog"
	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/gate"
)

// Options are what the command line says of the daemon.
type Options struct {
	// ConfigFile is the configuration file; empty for the embedded defaults.
	ConfigFile string
	// Source is one of [system.SourceNames]. Procfs and Rootfs are where they are
	// mounted; an empty Rootfs is found out.
	Source, Procfs, Rootfs string
	// Disabled are the names of the collectors that do not run.
	Disabled []string
	// MaxRequests is how many scrapes run concurrently; 0 is no limit but a high one.
	MaxRequests int
	// TimeoutOffset is how much earlier than Prometheus gives up a scrape ends.
	TimeoutOffset time.Duration

	Web           *toolkit.FlagConfig
	TelemetryPath string
	// RoutePrefix is in front of every path served, and LinkPrefix of every link.
	RoutePrefix, LinkPrefix string
	// Proxied says that clients reach the exporter through a reverse proxy.
	Proxied bool
	// NoSelfMetrics leaves out the metrics of the process and of the handler.
	NoSelfMetrics bool
	// Lifecycle lets POST /-/reload reload the configuration.
	Lifecycle bool
	// Profiles serves profiles of the process.
	Profiles bool
	// AutoReload is how often the files of the configuration are compared with what is
	// in force; 0 is never.
	AutoReload time.Duration
	// Defaults hold for keys that the configuration file leaves out.
	Defaults config.Defaults
	// HistoryLimit is how many recent probes are remembered, and how many failures before
	// them.
	HistoryLimit int
	// Ignored are flags that were given and have no effect.
	Ignored []string
	Log     *promslog.Config
}

// startTimeout is how long reading the configuration may take at start. A pipe may
// be slow; a file system that does not answer must not hold the start for ever.
const startTimeout = time.Minute

// LoadConfig reads the configuration file at start, where it may be a pipe. It
// ends with ctx.
func (o *Options) LoadConfig(ctx context.Context) (*config.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return o.readConfig(ctx, files.NewCalls(), files.Rules{Pipes: true})
}

// openGate reads the web configuration.
func (o *Options) openGate(ctx context.Context) (*gate.Gate, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	g, err := gate.Open(ctx, *o.Web.WebConfigFile)
	if err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	return g, nil
}

// readConfig reads the configuration file, or gives the defaults without one.
func (o *Options) readConfig(ctx context.Context, calls *beside.Calls, rules files.Rules) (*config.Config, error) {
	if o.ConfigFile == "" {
		return o.Defaults.Config(), nil
	}
	c, err := files.Beside(ctx, calls, func() (*config.Config, error) {
		return o.Defaults.Load(ctx, o.ConfigFile, rules)
	}, o.ConfigFile)
	if ctx.Err() != nil && err != nil {
		return nil, fmt.Errorf("--config.file=%s: %w", o.ConfigFile, err)
	}
	return c, err
}

// Check reads the configuration files, and returns what is odd about them. It touches
// nothing of the host, so that it serves where the daemon does not run.
func (o *Options) Check(ctx context.Context) (warnings []string, err error) {
	if _, err := o.openGate(ctx); err != nil {
		return nil, err
	}
	c, err := o.LoadConfig(ctx)
	if err != nil {
		return nil, err
	}
	return c.Warnings, nil
}
