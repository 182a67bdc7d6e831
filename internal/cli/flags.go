package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/daemon"
	"github.com/port-exporter/port_exporter/internal/system"
)

// defaultAddress is where metrics are served; 9100 to 9999 of the ports that
// Prometheus keeps a list of are taken.
const defaultAddress = ":10065"

// The commands. Without one the exporter serves.
const (
	commandServe     = "serve"
	commandListeners = "listeners"
	commandBaseline  = "baseline"
	commandCheck     = "check"
)

// IsOneOff reports whether a command line has a command that does not serve.
func IsOneOff(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		return slices.Contains([]string{commandListeners, commandBaseline, commandCheck}, arg)
	})
}

// hideServing hides the flags that only serving heeds, for the help of the other
// commands. They may be given all the same.
func hideServing(app *kingpin.Application) {
	heeded := []string{"help", "version", "config.file", "path.procfs", "path.rootfs", "source"}
	for _, flag := range app.Model().Flags {
		if !slices.Contains(heeded, flag.Name) {
			app.GetFlag(flag.Name).Hidden()
		}
	}
}

// flags are the command line.
type flags struct {
	command     string
	listeners   ListenersOptions
	baseline    BaselineOptions
	wait        time.Duration // of listeners and baseline
	target      CheckOptions
	configCheck bool
	daemon      daemon.Options
	externalURL *url.URL
	collectors  map[string]*collectorFlag
	noDefaults  bool // no collector but those whose flag is given
	gomaxprocs  int
}

// collectorFlag is the flag of a collector.
type collectorFlag struct{ on, given bool }

// disabled returns the names of the collectors that do not run.
func (f *flags) disabled() []string {
	var names []string
	for name, c := range f.collectors {
		if !c.on || f.noDefaults && !c.given {
			names = append(names, name)
		}
	}
	return names
}

// newApplication returns the command line, and the flags that parsing it sets.
func newApplication() (*kingpin.Application, *flags) {
	app := kingpin.New("port_exporter", "Tells Prometheus what the ports and sockets of this host are doing.")
	app.Version(version.Print("port_exporter")).HelpFlag.Short('h')
	f := &flags{daemon: daemon.Options{Log: &promslog.Config{}}, collectors: map[string]*collectorFlag{}}
	f.addServing(app)
	f.addCommands(app)
	return app, f
}

// Model returns the flags and commands there are.
func Model() *kingpin.ApplicationModel {
	app, _ := newApplication()
	return app.Model()
}

// parse reads the command line. It returns nil flags when all there was to do
// is done: --help or --version.
func parse(args []string, stdout, stderr io.Writer) (*flags, error) {
	app, f := newApplication()
	app.UsageWriter(stdout).ErrorWriter(stderr)
	f.daemon.Log.Writer = stderr
	done := false
	app.Terminate(func(int) { done = true })
	if IsOneOff(args) {
		hideServing(app)
	}
	var err error
	f.command, err = parseWith(app, args)
	if _, unwritten := errors.AsType[*fs.PathError](err); unwritten {
		return nil, err
	}
	if done { // kingpin has gone on, and may lack an argument
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w\nhint: port_exporter --help lists the flags", err)
	}
	f.daemon.Disabled = f.disabled()
	return f, f.check()
}

// addServing adds the flags of the daemon, some of which the commands heed too.
func (f *flags) addServing(app *kingpin.Application) {
	app.Flag("config.file", "Configuration file. Without one the embedded defaults hold.").StringVar(&f.daemon.ConfigFile)
	app.Flag("config.check", "Check the configuration files and exit.").BoolVar(&f.configCheck)
	f.daemon.Web = kingpinflag.AddFlags(app, defaultAddress)
	app.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").StringVar(&f.daemon.TelemetryPath)
	app.Flag("web.max-requests", "Concurrent scrapes; others wait up to 5 s for one to end. 0 for no limit but a high one.").Default("10").IntVar(&f.daemon.MaxRequests)
	app.Flag("web.disable-exporter-metrics", "Leave out the metrics of the exporter's own process and of its handler (go_*, process_*, promhttp_*).").BoolVar(&f.daemon.NoSelfMetrics)
	app.Flag("web.enable-lifecycle", "Let POST /-/reload reload the configuration.").BoolVar(&f.daemon.Lifecycle)
	app.Flag("web.external-url", "URL under which the exporter is reached from outside, as behind a reverse proxy.").URLVar(&f.externalURL)
	app.Flag("web.route-prefix", "Prefix of every path served. The default is the path of --web.external-url.").StringVar(&f.daemon.RoutePrefix)
	for _, name := range collector.Names() {
		c := &collectorFlag{}
		app.Flag("collector."+name, "Run the collector "+name+".").Default("true").IsSetByUser(&c.given).BoolVar(&c.on)
		f.collectors[name] = c
	}
	app.Flag("collector.disable-defaults", "Run only the collectors whose flag is given.").BoolVar(&f.noDefaults)
	app.Flag("path.procfs", "Where procfs is mounted (Linux).").Default("/proc").StringVar(&f.daemon.Procfs)
	app.Flag("path.rootfs", "Where the root of the host is mounted, for the names of its users (Linux). The default is found out.").ExistingDirVar(&f.daemon.Rootfs)
	app.Flag("source", "What sockets are read from: auto, sock_diag, procfs (Linux) or gopsutil.").Default(system.Auto).StringVar(&f.daemon.Source)
	app.Flag("timeout-offset", "How much earlier than Prometheus gives up a scrape ends.").Default("500ms").DurationVar(&f.daemon.TimeoutOffset)
	app.Flag("runtime.gomaxprocs", "Number of CPUs that may run Go code at once; 0 for the default of Go.").Envar("GOMAXPROCS").Default("0").IntVar(&f.gomaxprocs)
	promslogflag.AddFlags(app, f.daemon.Log)
}

// addCommands adds the commands with their flags.
func (f *flags) addCommands(app *kingpin.Application) {
	app.Command(commandServe, "Serve metrics; what is done without a command.").Default()
	listeners := app.Command(commandListeners, "List what listens here, on which address and for whom. With a policy in --config.file, exit with 1 if something is unexpected or missing.")
	listeners.Flag("output", "Form of the list: table, json, csv; with a policy sarif or junit for CI, and report (Markdown, for auditors).").Short('o').Default(Table).StringVar(&f.listeners.Output)
	listeners.Flag("unexpected", "List only what the policy does not expect. When that is nothing, the table is empty.").BoolVar(&f.listeners.Unexpected)
	listeners.Flag("input", "Judge a table that --output=json wrote, perhaps on another host, and not this host; - for standard input.").StringVar(&f.listeners.Input)
	const waitHelp = "Watch UDP sockets on ports above 1023 for this long; those that stay are listeners. The daemon takes 5m."
	listeners.Flag("wait", waitHelp).DurationVar(&f.wait)
	baseline := app.Command(commandBaseline, "Write a policy that expects what listens here now, for review.")
	baseline.Flag("merge", "Write this configuration file, with rules added for what its policy does not expect.").StringVar(&f.baseline.Merge)
	baseline.Flag("ephemeral", "Expect any port that the kernel gives to clients of a program that has one, on addresses that other hosts reach, too.").BoolVar(&f.baseline.Ephemeral)
	baseline.Flag("wait", waitHelp).DurationVar(&f.wait)
	check := app.Command(commandCheck, "Reach a target once and say what came of it, and who said so. Exit with 0 when it is as the module expects, 1 when not, 2 when it could not be tried.")
	check.Arg("target", "What to reach: host:port, or what else the module takes.").Required().StringVar(&f.target.Target)
	check.Flag("module", "Module of the configuration, or a built-in one. The default is that of the configured target, else tcp_connect for host:port, http_2xx for URLs, unix_connect for paths.").StringVar(&f.target.Module)
	check.Flag("hostname", "Name of the target in the header Host and in TLS. The default is that of the configured target.").StringVar(&f.target.Hostname)
	check.Flag("debug", "Show the log of the probe.").BoolVar(&f.target.Debug)
	check.Flag("timeout", "How long it may take; 0 for the module's own.").Default("0s").DurationVar(&f.target.Timeout)
}

// parseWith parses the command line. kingpin panics where it cannot write the help.
func parseWith(app *kingpin.Application, args []string) (command string, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *fs.PathError:
			err = p
		default:
			panic(p)
		}
	}()
	return app.Parse(args)
}

// Limits of flags. Above the first, the collector of garbage has more threads than Go
// allows; above the second nothing is limited.
const (
	maxProcs       = 1024
	maxMaxRequests = 1_000_000
)

// check refuses values that kingpin accepts and that could not work.
func (f *flags) check() error {
	if !isPath(f.daemon.TelemetryPath) { // the handler knows which are taken
		return fmt.Errorf("--web.telemetry-path=%q: it must be a path that no other page has\nhint: /metrics", f.daemon.TelemetryPath)
	}
	if !slices.Contains(system.SourceNames(), f.daemon.Source) {
		return fmt.Errorf("--source=%s: there is no such source\nhint: it must be one of %s", f.daemon.Source, strings.Join(system.SourceNames(), ", "))
	}
	if f.command == commandListeners && !slices.Contains(Outputs(), f.listeners.Output) {
		return fmt.Errorf("--output=%s: there is no such form\nhint: it must be one of %s", f.listeners.Output, strings.Join(Outputs(), ", "))
	}
	if err := f.checkNumbers(); err != nil {
		return err
	}
	if err := f.checkAddresses(); err != nil {
		return err
	}
	if f.daemon.Proxied = f.externalURL != nil; !f.daemon.Proxied {
		f.externalURL = &url.URL{Path: f.daemon.RoutePrefix}
	}
	f.daemon.LinkPrefix = f.externalURL.Path
	if f.daemon.RoutePrefix == "" {
		f.daemon.RoutePrefix = f.externalURL.Path
	}
	if prefix := strings.Trim(f.daemon.RoutePrefix, "/"); prefix != "" && !isPath("/"+prefix) {
		return fmt.Errorf("--web.route-prefix=%q: it must be a plain path\nhint: /ports", f.daemon.RoutePrefix)
	}
	return nil
}

func (f *flags) checkNumbers() error {
	if f.daemon.MaxRequests < 0 || f.daemon.MaxRequests > maxMaxRequests {
		return fmt.Errorf("--web.max-requests=%d: it must be 0, for no limit, to %d", f.daemon.MaxRequests, maxMaxRequests)
	}
	if f.gomaxprocs < 0 || f.gomaxprocs > maxProcs {
		return fmt.Errorf("--runtime.gomaxprocs=%d: it must be 0, for the default of Go, to %d\nhint: the number of CPUs; GOMAXPROCS in the environment counts too", f.gomaxprocs, maxProcs)
	}
	if f.target.Timeout < 0 {
		return fmt.Errorf("--timeout=%v: it must not be negative", f.target.Timeout)
	}
	if f.daemon.TimeoutOffset < 0 {
		return fmt.Errorf("--timeout-offset=%v: it must not be negative", f.daemon.TimeoutOffset)
	}
	return nil
}

// checkAddresses refuses addresses without a port, for which the kernel would choose
// one. A port of 0 asks it to.
func (f *flags) checkAddresses() error {
	if f.command != commandServe || f.daemon.Web.WebSystemdSocket != nil && *f.daemon.Web.WebSystemdSocket {
		return nil
	}
	for _, address := range *f.daemon.Web.WebListenAddresses {
		if strings.HasPrefix(address, "vsock://") {
			continue
		}
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			return fmt.Errorf("--web.listen-address=%q: it must be host:port, or :port for every address\nhint: %s", address, defaultAddress)
		}
	}
	return nil
}

// isPath reports whether a path is as it is after cleaning, and of characters that
// need no escaping.
func isPath(p string) bool {
	return regexp.MustCompile(`^(/[\w.~-]+)+$`).MatchString(p) && path.Clean(p) == p
}
