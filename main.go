// Command port_exporter tells Prometheus what the ports and sockets of a host
// are doing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/common/version"
	"google.golang.org/grpc/grpclog"

	"github.com/port-exporter/port_exporter/internal/cli"
	"github.com/port-exporter/port_exporter/internal/gate"
	"github.com/port-exporter/port_exporter/internal/logs"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/system"
	"github.com/port-exporter/port_exporter/internal/web"
)

func main() {
	ctx := context.Background()
	if !isOneOff(os.Args[1:]) { // a signal ends the other commands immediately
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, func() {
			stop() // a second signal ends the program immediately
			time.AfterFunc(lastResort, func() { os.Exit(1) })
		})
	}
	if built, ok := debug.ReadBuildInfo(); ok && version.Version == "" { // no -ldflags: go install, go run
		version.Version = built.Main.Version
	}
	grpclog.SetLoggerV2(logs.GRPC{})
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		os.Exit(reportUntil(ctx, err))
	}
}

// lastResort is how long after a signal the daemon ends whatever it waits for: more
// than it gives scrapes to finish, and less than systemd waits.
const lastResort = 15 * time.Second

// reportUntil is report to standard error. If that is a pipe that is full, it waits
// no longer than until a signal comes.
func reportUntil(ctx context.Context, err error) int {
	code := make(chan int, 1)
	go func() { code <- report(os.Stderr, err) }()
	select {
	case c := <-code:
		return c
	case <-ctx.Done():
	}
	select {
	case c := <-code:
		return c
	case <-time.After(flushTimeout):
		return 1
	}
}

// report says what went wrong and returns the exit status.
func report(stderr io.Writer, err error) int {
	if exit, ok := errors.AsType[*cli.ExitError](err); ok {
		if exit.Message != "" {
			fmt.Fprintf(stderr, "port_exporter: %s\n", plain.Text(exit.Message))
		}
		return exit.Code
	}
	fmt.Fprintf(stderr, "port_exporter: error: %s\n", plain.Text(err.Error()))
	return 1
}

// run is the program. What it could not write to stdout is its error, whatever
// wrote it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	out := &output{Writer: stdout}
	err := runCommand(ctx, args, out, stderr)
	switch {
	case out.err == nil:
		return err
	case isOneOff(args):
		return cli.Failure(out.err)
	default:
		return out.err
	}
}

// output remembers the first error of its writes: kingpin ignores it.
type output struct {
	io.Writer
	err error
}

// Write implements [io.Writer].
func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// runCommand parses the command line and does what it says. Without a command it
// serves until ctx ends.
func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parse(args, stdout, stderr)
	if err != nil && isOneOff(args) {
		return cli.Failure(err) // not the status of a finding
	}
	if f == nil || err != nil {
		return err
	}
	if f.command != commandServe {
		return f.look(ctx, stdout, stderr)
	}
	door, err := f.openGate(ctx)
	if err != nil {
		return err
	}
	if f.configCheck {
		return f.checkConfig(ctx, stdout)
	}
	if f.gomaxprocs > 0 {
		runtime.GOMAXPROCS(f.gomaxprocs)
	}
	hangups := make(chan os.Signal, 1) // from the start: SIGHUP must not end the program
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	signal.Ignore(syscall.SIGPIPE) // nor must the end of whatever reads its log
	queue := newLogQueue(f.log.Writer)
	defer queue.Close()

	d, err := newDaemon(ctx, f, door, queue)
	if err != nil {
		return err
	}
	defer d.runner.Stop()
	log.SetFlags(0)
	log.SetOutput(logs.Library{Logger: d.logger})
	collectLessOften(d.system.Name)
	d.boundMemory()
	handler, err := d.handler()
	if err != nil {
		return err
	}
	go d.reloadOn(ctx, hangups)
	d.logger.Info("starting", "version", version.Info(), "build", version.BuildContext(), "socket_source", d.system.Name)
	return serve(ctx, web.NewServer(handler, d.connections(), d.logger), door, d)
}

// collectLessOften lets the heap grow threefold between two collections unless
// GOGC says otherwise: at Go's default they are a third of the CPU of a small
// scrape. Our own sources keep the heap at a few MB whatever the number of
// sockets; gopsutil does not, so it is left out.
func collectLessOften(source string) {
	if os.Getenv("GOGC") == "" && source != system.GopsUtil {
		debug.SetGCPercent(200)
	}
}

// boundMemory has Go collect more often as its memory comes near the limit of a
// cgroup, unless GOMEMLIMIT says otherwise: the kernel ends a process that is above
// it. A fifth is left for what Go does not count, such as the program itself.
func (d *daemon) boundMemory() {
	limit, limited := system.MemoryLimit()
	if os.Getenv("GOMEMLIMIT") != "" || !limited {
		return
	}
	bound := int64(limit / 5 * 4)
	debug.SetMemoryLimit(bound)
	d.logger.Info("memory is limited by a cgroup", "limit_bytes", limit, "gomemlimit_bytes", bound)
}

// look runs a command that looks at the host once.
func (f *flags) look(ctx context.Context, stdout, stderr io.Writer) error {
	c, err := f.loadConfig(ctx)
	if err != nil {
		return cli.Failure(err)
	}
	host := &cli.Host{Config: c, ConfigFile: f.configFile, Stdin: os.Stdin, Stdout: stdout, Stderr: stderr, Version: version.Version, Wait: f.wait}
	if f.command != commandListeners || f.listeners.Input == "" { // a saved table may be another system's
		host.System, err = cli.Within(ctx, "open the host", func(ctx context.Context) (*system.System, error) {
			return system.Open(ctx, f.source, f.procfs, f.rootfs, newLogger(f.log, stderr))
		})
		if err != nil {
			return cli.Failure(err)
		}
	}
	switch f.command {
	case commandBaseline:
		return cli.Baseline(ctx, host, f.baseline)
	case commandCheck:
		return cli.Check(ctx, host, f.target, f.module, f.timeout)
	default:
		return cli.Listeners(ctx, host, f.listeners)
	}
}

// windowsAddressInUse is WSAEADDRINUSE, which Windows has for EADDRINUSE.
const windowsAddressInUse = syscall.Errno(10048)

// serve runs the server until ctx ends. Then it ends the probes, and lets the
// scrapes that run finish, for a while.
func serve(ctx context.Context, server *http.Server, door *gate.Gate, d *daemon) error {
	failed := make(chan error, 1)
	go func() { failed <- door.ListenAndServe(server, d.flags.web, d.logger, d.system.Own.Opened) }()
	select {
	case err := <-failed:
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, windowsAddressInUse) {
			err = fmt.Errorf("%w\nhint: another process has this port; stop it, or choose another with --web.listen-address", err)
		}
		return err
	case <-ctx.Done():
	}
	d.logger.Info("shutting down")
	d.system.Own.Closing()
	d.runner.Stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	d.logger.Warn("ending the requests that are still under way")
	return server.Close()
}
