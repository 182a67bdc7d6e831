// Command port_exporter tells Prometheus what the ports and sockets of a host
// are doing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/system"
)

// defaultAddress is where metrics are served; 9100 to 9999 of the ports that
// Prometheus keeps a list of are taken.
const defaultAddress = ":10065"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if built, ok := debug.ReadBuildInfo(); ok && version.Version == "" { // no -ldflags: go install, go run
		version.Version = built.Main.Version
	}
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "port_exporter: error: %v\n", err)
		os.Exit(1)
	}
}

// flags are the command line.
type flags struct {
	configFile    string
	configCheck   bool
	web           *toolkit.FlagConfig
	telemetryPath string
	maxRequests   int
	noSelfMetrics bool
	lifecycle     bool
	externalURL   *url.URL
	routePrefix   string
	collectors    map[string]*bool
	procfs        string
	source        string
	timeoutOffset time.Duration
	gomaxprocs    int
	log           *promslog.Config
}

// parse reads the command line. It returns nil flags when all there was to do
// is done: --help or --version.
func parse(args []string, stdout, stderr io.Writer) (*flags, error) {
	app := kingpin.New("port_exporter", "Tells Prometheus what the ports and sockets of this host are doing.")
	app.UsageWriter(stdout).ErrorWriter(stderr).Version(version.Print("port_exporter")).HelpFlag.Short('h')
	done := false
	app.Terminate(func(int) { done = true })

	f := &flags{log: &promslog.Config{Writer: stderr}, collectors: map[string]*bool{}}
	app.Flag("config.file", "Configuration file. Without one the embedded defaults hold.").StringVar(&f.configFile)
	app.Flag("config.check", "Check the configuration files and exit.").BoolVar(&f.configCheck)
	f.web = kingpinflag.AddFlags(app, defaultAddress)
	app.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").StringVar(&f.telemetryPath)
	app.Flag("web.max-requests", "Scrapes that may run at once; 0 for no limit.").Default("40").IntVar(&f.maxRequests)
	app.Flag("web.disable-exporter-metrics", "Leave out the metrics of the exporter's own process (go_*, process_*).").BoolVar(&f.noSelfMetrics)
	app.Flag("web.enable-lifecycle", "Let POST /-/reload reload the configuration.").BoolVar(&f.lifecycle)
	app.Flag("web.external-url", "URL under which the exporter is reached from outside, as behind a reverse proxy.").URLVar(&f.externalURL)
	app.Flag("web.route-prefix", "Prefix of every path served. The default is the path of --web.external-url.").StringVar(&f.routePrefix)
	for _, name := range collector.Names() {
		f.collectors[name] = app.Flag("collector."+name, "Run the collector "+name+".").Default("true").Bool()
	}
	app.Flag("path.procfs", "Where procfs is mounted (Linux).").Default("/proc").StringVar(&f.procfs)
	app.Flag("source", "What sockets are read from: auto, sock_diag, procfs (Linux) or gopsutil.").Default(system.Auto).EnumVar(&f.source, system.SourceNames()...)
	app.Flag("timeout-offset", "How much earlier than Prometheus gives up a scrape ends.").Default("500ms").DurationVar(&f.timeoutOffset)
	app.Flag("runtime.gomaxprocs", "Number of CPUs that may run Go code at once; 0 for the default of Go.").Envar("GOMAXPROCS").Default("0").IntVar(&f.gomaxprocs)
	promslogflag.AddFlags(app, f.log)

	_, err := app.Parse(args)
	if done {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w\nhint: port_exporter --help lists the flags", err)
	}
	return f, f.check()
}

// check refuses values that kingpin accepts and that could not work.
func (f *flags) check() error {
	path := regexp.MustCompile(`^(/[\w.~-]+)+$`)
	if !path.MatchString(f.telemetryPath) || f.telemetryPath == "/config" || strings.HasPrefix(f.telemetryPath, "/-/") {
		return fmt.Errorf("--web.telemetry-path=%q: it must be a path that no other page has\nhint: /metrics", f.telemetryPath)
	}
	if f.timeoutOffset < 0 {
		return fmt.Errorf("--timeout-offset=%v: it must not be negative", f.timeoutOffset)
	}
	if f.externalURL == nil {
		f.externalURL = &url.URL{Path: f.routePrefix}
	}
	if f.routePrefix == "" {
		f.routePrefix = f.externalURL.Path
	}
	if prefix := strings.Trim(f.routePrefix, "/"); prefix != "" && !path.MatchString("/"+prefix) {
		return fmt.Errorf("--web.route-prefix=%q: it must be a plain path\nhint: /ports", f.routePrefix)
	}
	return nil
}

// loadConfig reads the configuration file, or gives the defaults without one.
func (f *flags) loadConfig() (*config.Config, error) {
	if f.configFile == "" {
		return config.Default(), nil
	}
	return config.Load(f.configFile)
}

// checkConfig is --config.check. It touches nothing of the host, so that it
// serves where the daemon does not run.
func (f *flags) checkConfig(stdout io.Writer) error {
	if _, err := f.loadConfig(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(stdout, "the configuration is valid")
	return err
}

// run is the program: it serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parse(args, stdout, stderr)
	if f == nil || err != nil {
		return err
	}
	if err := toolkit.Validate(*f.web.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	if f.configCheck {
		return f.checkConfig(stdout)
	}
	if f.gomaxprocs > 0 {
		runtime.GOMAXPROCS(f.gomaxprocs)
	}
	hangups := make(chan os.Signal, 1) // from the start: SIGHUP must not end the program
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	d, err := newDaemon(ctx, f)
	if err != nil {
		return err
	}
	handler, err := d.handler()
	if err != nil {
		return err
	}
	go d.reloadOn(ctx, hangups)
	d.logger.Info("starting", "version", version.Info(), "build", version.BuildContext(), "socket_source", d.system.Name)
	return serve(ctx, &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}, d)
}

// windowsAddressInUse is WSAEADDRINUSE, which Windows has for EADDRINUSE.
const windowsAddressInUse = syscall.Errno(10048)

// serve runs the server until ctx ends, and then lets the scrapes that run
// finish.
func serve(ctx context.Context, server *http.Server, d *daemon) error {
	failed := make(chan error, 1)
	go func() { failed <- toolkit.ListenAndServe(server, d.flags.web, d.logger) }()
	select {
	case err := <-failed:
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, windowsAddressInUse) {
			err = fmt.Errorf("%w\nhint: another process has this port; stop it, or choose another with --web.listen-address", err)
		}
		return err
	case <-ctx.Done():
	}
	d.logger.Info("shutting down")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}
