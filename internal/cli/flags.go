package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
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

// isOneOff reports whether a command line has a command that does not serve.
func isOneOff(args []string) bool {
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
	unix        bool          // likewise
	namespaces  namespaceChoice
	target      checkOptions
	configCheck bool
	daemon      daemon.Options
	externalURL *url.URL
	collectors  map[string]*collectorFlag
	noDefaults  bool // no collector but those whose flag is given
	gomaxprocs  int

	autoReload         bool
	autoReloadInterval time.Duration
	allow              string // of --probes.allow
	logProber          string // of blackbox_exporter; without effect
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
	app := kingpin.New("port_exporter", "Prometheus exporter for the ports and sockets of a host.")
	app.Version(version.Print("port_exporter")).HelpFlag.Short('h')
	f := &flags{daemon: daemon.Options{Log: &promslog.Config{}}, collectors: map[string]*collectorFlag{}}
	f.addServing(app)
	f.addCommands(app)
	return app, f
}

// procsVariable is the environment variable that --runtime.gomaxprocs defaults to.
const procsVariable = "GOMAXPROCS"

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
	if slices.Contains(args, "--help-man") { // kingpin's own is no valid page
		_, err := io.WriteString(stdout, manPage(Model()))
		return nil, err
	}
	if isOneOff(args) {
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
	if value := os.Getenv(procsVariable); err != nil && value != "" && strings.Contains(err.Error(), strconv.Quote(value)) { // kingpin does not name it
		return nil, fmt.Errorf("environment variable %s: %w\nhint: use the number of CPUs, or unset it", procsVariable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w\nhint: port_exporter --help lists the flags", err)
	}
	f.daemon.Disabled = f.disabled()
	f.daemon.Defaults.AllowAny = f.allow == config.AllowAny
	if f.autoReload {
		f.daemon.AutoReload = f.autoReloadInterval
	}
	if f.logProber != "" {
		f.daemon.Ignored = append(f.daemon.Ignored, "--log.prober")
	}
	return f, f.check()
}

// addServing adds the flags of the daemon, some of which the commands heed too.
func (f *flags) addServing(app *kingpin.Application) {
	app.Flag("config.file", "Configuration file. Default: the embedded defaults.").StringVar(&f.daemon.ConfigFile)
	app.Flag("config.check", "Check the configuration files and exit.").BoolVar(&f.configCheck)
	app.Flag("config.enable-auto-reload", "Reload the configuration when its files change.").BoolVar(&f.autoReload)
	app.Flag("config.auto-reload-interval", "How often --config.enable-auto-reload looks at the files.").Default("30s").SetValue((*seconds)(&f.autoReloadInterval))
	app.Flag("probes.allow", "What /probe may probe if the configuration does not have probes.allow: configured or any.").Default(config.AllowConfigured).EnumVar(&f.allow, config.AllowConfigured, config.AllowAny)
	app.Flag("history.limit", "Number of recent probes, and of failures before them, that the page shows.").Default("100").IntVar(&f.daemon.HistoryLimit)
	app.Flag("log.prober", "Ignored; the log of a probe is in /logs and debug=true.").Hidden().StringVar(&f.logProber)
	f.daemon.Web = kingpinflag.AddFlags(app, defaultAddress)
	app.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").StringVar(&f.daemon.TelemetryPath)
	app.Flag("web.max-requests", "Maximum number of concurrent scrapes. Further ones wait up to 5 s. 0: a high built-in limit.").Default("10").IntVar(&f.daemon.MaxRequests)
	app.Flag("web.disable-exporter-metrics", "Exclude metrics about the exporter itself (go_*, process_*, promhttp_*).").BoolVar(&f.daemon.NoSelfMetrics)
	app.Flag("web.enable-lifecycle", "Enable configuration reload by POST to /-/reload.").BoolVar(&f.daemon.Lifecycle)
	app.Flag("web.enable-pprof", "Serve profiles of the exporter on /debug/pprof/.").BoolVar(&f.daemon.Profiles)
	app.Flag("web.external-url", "External URL of the exporter, for example behind a reverse proxy.").URLVar(&f.externalURL)
	app.Flag("web.route-prefix", "Prefix of all paths served. Default: the path of --web.external-url.").StringVar(&f.daemon.RoutePrefix)
	for _, name := range collector.Names() {
		c, on := &collectorFlag{}, !slices.Contains(collector.OffByDefault(), name)
		app.Flag("collector."+name, "Run the collector "+name+".").Default(strconv.FormatBool(on)).IsSetByUser(&c.given).BoolVar(&c.on)
		f.collectors[name] = c
	}
	app.Flag("collector.disable-defaults", "Run only the collectors whose flag is given.").BoolVar(&f.noDefaults)
	app.Flag("path.procfs", "Mount point of procfs (Linux).").Default("/proc").StringVar(&f.daemon.Procfs)
	app.Flag("path.rootfs", "Mount point of the host's root, for the names of users, containers and pods (Linux). Default: detected.").ExistingDirVar(&f.daemon.Rootfs)
	app.Flag("source", "Source of the socket table: auto, sock_diag, bpf, procfs (Linux) or gopsutil.").Default(system.Auto).StringVar(&f.daemon.Source)
	app.Flag("timeout-offset", "Time subtracted from the scrape timeout of Prometheus.").Default("500ms").SetValue((*seconds)(&f.daemon.TimeoutOffset))
	app.Flag("runtime.gomaxprocs", "Number of CPUs that run Go code concurrently (GOMAXPROCS). 0: Go's default.").Envar(procsVariable).Default("0").IntVar(&f.gomaxprocs)
	promslogflag.AddFlags(app, f.daemon.Log)
}

// addCommands adds the commands with their flags.
func (f *flags) addCommands(app *kingpin.Application) {
	app.Command(commandServe, "Serve metrics (default).").Default()
	listeners := app.Command(commandListeners, "List listeners with address and owner. With a policy in --config.file, exit status 1 means an unexpected or missing listener.")
	listeners.Flag("output", "Output format: table, json or csv; with a policy also sarif, junit (CI) or report (Markdown).").Short('o').Default(outputTable).StringVar(&f.listeners.Output)
	listeners.Flag("unexpected", "List only listeners that the policy does not expect.").BoolVar(&f.listeners.Unexpected)
	listeners.Flag("input", "Read listeners from a file of --output=json instead of this host; - is standard input.").StringVar(&f.listeners.Input)
	const waitHelp = "How long a UDP socket on a port above 1023 must exist to be a listener. The daemon uses 5m."
	listeners.Flag("wait", waitHelp).DurationVar(&f.wait)
	listeners.Flag("unix", "List unix listeners, too. With a policy whose rules name protocol unix they are always listed.").BoolVar(&f.unix)
	listeners.Flag("all-namespaces", "List the TCP and UDP listeners of all other network namespaces (containers, pods), too.").BoolVar(&f.namespaces.All)
	listeners.Flag("netns", "List the TCP and UDP listeners of this network namespace only: its name of --all-namespaces or of ip netns, its container or pod.").StringVar(&f.namespaces.Name)
	baseline := app.Command(commandBaseline, "Write a policy that expects the current listeners, for review.")
	baseline.Flag("merge", "Write this configuration file with rules added for unexpected listeners.").StringVar(&f.baseline.Merge)
	baseline.Flag("ephemeral", "Expect all ephemeral ports of a program that listens on one, also on addresses that other hosts can reach.").BoolVar(&f.baseline.Ephemeral)
	baseline.Flag("wait", waitHelp).DurationVar(&f.wait)
	baseline.Flag("all-namespaces", "Expect the current TCP and UDP listeners of all other network namespaces (containers, pods), too. From then on others are unexpected.").BoolVar(&f.namespaces.All)
	baseline.Flag("unix", "Expect the current unix listeners, too. From then on others are unexpected.").BoolVar(&f.unix)
	f.addCheck(app)
}

// addCheck adds the command check.
func (f *flags) addCheck(app *kingpin.Application) {
	check := app.Command(commandCheck, "Say why a target cannot be reached: a verdict, its evidence, and what to try. Exit status: 0 as expected, 1 not, 2 not tried.")
	check.Arg("target", "Port of this host, host:port, URL (http, https, tcp, tls, udp, dns, redis, postgres, unix, ...), path of a unix socket, or a unit or container of this host.").Required().StringsVar(&f.target.Targets)
	check.Flag("module", "Configured or built-in module. Default: that of the configured target, otherwise by the form of the target.").StringVar(&f.target.Module)
	check.Flag("hostname", "Host name for the Host header and TLS. Default: that of the configured target.").StringVar(&f.target.Hostname)
	check.Flag("udp", "Send a datagram to host:port; a DNS, NTP, SNMP, STUN, SIP or QUIC request if the port is theirs.").BoolVar(&f.target.Form.UDP)
	check.Flag("tls", "Make a TLS handshake with host:port.").BoolVar(&f.target.Form.TLS)
	check.Flag("from", "Address or interface of this host to probe from; sockets are bound to an interface. Default: chosen by the kernel.").StringVar(&f.target.From)
	check.Flag("netns", "Network namespace of this host to probe from: a container, pod or name of ip netns. Requires CAP_SYS_ADMIN.").StringVar(&f.target.Netns)
	check.Flag("all-ips", "Probe every address of the name. Without it the others are only connected to.").BoolVar(&f.target.AllIPs)
	check.Flag("trace", "Trace the path: each hop, where packets die, and the MTU. Up to 15 s; requires no privilege.").BoolVar(&f.target.Trace)
	check.Flag("timeout", "Timeout of the probe. 0: the module's timeout.").Default("0s").DurationVar(&f.target.Timeout)
	check.Flag("wait", "Retry for this long until the target is as expected.").Default("0s").DurationVar(&f.target.Wait)
	check.Flag("watch", "Check each second until interrupted.").BoolVar(&f.target.Watch)
	check.Flag("output", "Output format: text or json (one line for each target).").Short('o').Default(outputText).StringVar(&f.target.Output)
	check.Flag("quiet", "Write nothing; the exit status is the answer.").Short('q').BoolVar(&f.target.Quiet)
	check.Flag("debug", "Show the log of the probe.").BoolVar(&f.target.Debug)
}

// seconds is a duration that may be written as a number of seconds, as
// blackbox_exporter has it.
type seconds time.Duration

// Set implements [kingpin.Value].
func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(n) < maxSeconds {
		*s = seconds(n * float64(time.Second))
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration: 500ms, or 0.5 for seconds", text)
	}
	*s = seconds(d)
	return nil
}

// maxSeconds is a bit less than what a [time.Duration] holds.
const maxSeconds = 9e9

func (s *seconds) String() string { return time.Duration(*s).String() }

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
	maxHistory     = 10_000
)

// check rejects invalid values that kingpin accepts.
func (f *flags) check() error {
	if !isPath(f.daemon.TelemetryPath) { // the handler knows which are taken
		return fmt.Errorf("--web.telemetry-path=%q: path is invalid or used by another page\nhint: /metrics", f.daemon.TelemetryPath)
	}
	if !slices.Contains(system.SourceNames(), f.daemon.Source) {
		return fmt.Errorf("--source=%s: unknown source\nhint: must be one of %s", f.daemon.Source, strings.Join(system.SourceNames(), ", "))
	}
	if f.command == commandListeners && !slices.Contains(outputs(), f.listeners.Output) {
		return fmt.Errorf("--output=%s: unknown output format\nhint: must be one of %s", f.listeners.Output, strings.Join(outputs(), ", "))
	}
	if err := f.checkNumbers(); err != nil {
		return err
	}
	if err := f.checkAddresses(); err != nil {
		return err
	}
	if err := f.checkExternalURL(); err != nil {
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
		return fmt.Errorf("--web.route-prefix=%q: must be a plain path\nhint: /ports", f.daemon.RoutePrefix)
	}
	return nil
}

// checkExternalURL rejects what is no address of a page. The error omits a password.
func (f *flags) checkExternalURL() error {
	u := f.externalURL
	switch {
	case u == nil:
		return nil
	case u.User != nil:
		return fmt.Errorf("--web.external-url=%s: must not have a user or password\nhint: set users in --web.config.file", u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return fmt.Errorf("--web.external-url=%s: must be a URL with http or https\nhint: https://ports.example.org/ports; for a path alone use --web.route-prefix", u)
	}
	return nil
}

func (f *flags) checkNumbers() error {
	if f.daemon.MaxRequests < 0 || f.daemon.MaxRequests > maxMaxRequests {
		return fmt.Errorf("--web.max-requests=%d: must be from 0 (no limit) to %d", f.daemon.MaxRequests, maxMaxRequests)
	}
	if f.gomaxprocs < 0 || f.gomaxprocs > maxProcs {
		return fmt.Errorf("--runtime.gomaxprocs=%d: must be from 0 (Go's default) to %d\nhint: use the number of CPUs; the environment variable GOMAXPROCS sets it too", f.gomaxprocs, maxProcs)
	}
	if err := f.target.check(); f.command == commandCheck && err != nil {
		return err
	}
	if f.daemon.TimeoutOffset < 0 {
		return fmt.Errorf("--timeout-offset=%v: must not be negative", f.daemon.TimeoutOffset)
	}
	if f.autoReloadInterval < time.Second {
		return fmt.Errorf("--config.auto-reload-interval=%v: must be at least 1s", f.autoReloadInterval)
	}
	if n := f.daemon.HistoryLimit; n < 0 || n > maxHistory {
		return fmt.Errorf("--history.limit=%d: must be from 0 to %d", n, maxHistory)
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
			return fmt.Errorf("--web.listen-address=%q: must be host:port, or :port for all addresses\nhint: %s", address, defaultAddress)
		}
	}
	return nil
}

// isPath reports whether a path is as it is after cleaning, and of characters that
// need no escaping.
func isPath(p string) bool {
	return regexp.MustCompile(`^(/[\w.~-]+)+$`).MatchString(p) && path.Clean(p) == p
}
