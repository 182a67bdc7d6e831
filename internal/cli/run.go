package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/prometheus/common/version"

	"github.com/port-exporter/port_exporter/internal/daemon"
	"github.com/port-exporter/port_exporter/internal/logs"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/system"
)

// Status writes what went wrong to standard error, and returns the exit status. If
// that is a pipe that is full, it waits no longer than until ctx ends.
func Status(ctx context.Context, stderr io.Writer, err error) int {
	code := make(chan int, 1)
	go func() { code <- report(stderr, err) }()
	select {
	case c := <-code:
		return c
	case <-ctx.Done():
	}
	select {
	case c := <-code:
		return c
	case <-time.After(logs.FlushTimeout):
		return 1
	}
}

// report says what went wrong and returns the exit status.
func report(stderr io.Writer, err error) int {
	if exit, ok := errors.AsType[*ExitError](err); ok {
		if exit.Message != "" {
			fmt.Fprintf(stderr, "port_exporter: %s\n", plain.Text(exit.Message))
		}
		return exit.Code
	}
	fmt.Fprintf(stderr, "port_exporter: error: %s\n", plain.Text(err.Error()))
	return 1
}

// Run is the program. What it could not write to stdout is its error, whatever
// wrote it.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	out := &output{Writer: stdout}
	err := runCommand(ctx, args, out, stderr)
	switch {
	case out.err == nil:
		return err
	case isOneOff(args):
		return failure(out.err)
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
	switch {
	case err != nil && isOneOff(args):
		return failure(err) // not the status of a finding
	case f == nil || err != nil:
		return err
	case f.command != commandServe:
		return f.look(ctx, stdout, stderr)
	case f.configCheck:
		return f.checkConfig(ctx, stdout)
	default:
		return f.serve(ctx)
	}
}

// serve runs the daemon.
func (f *flags) serve(ctx context.Context) error {
	if f.gomaxprocs > 0 {
		runtime.GOMAXPROCS(f.gomaxprocs)
	}
	hangups := make(chan os.Signal, 1) // from the start: SIGHUP must not end the program
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	signal.Ignore(syscall.SIGPIPE) // nor must the end of whatever reads its log
	return daemon.Serve(ctx, f.daemon, hangups)
}

// look runs a command that looks at the host once.
func (f *flags) look(ctx context.Context, stdout, stderr io.Writer) error {
	c, err := f.daemon.LoadConfig(ctx)
	if err != nil {
		return failure(err)
	}
	host := &Command{Config: c, ConfigFile: f.daemon.ConfigFile, Stdin: os.Stdin, Stdout: stdout, Stderr: stderr, Version: version.Version, Wait: f.wait, Unix: f.unix, Namespaces: f.namespaces}
	if f.command != commandListeners || f.listeners.Input == "" { // a saved table may be another system's
		host.System, err = withinLimit(ctx, "open the host", func(ctx context.Context) (*system.System, error) {
			return system.Open(ctx, f.daemon.Source, f.daemon.Procfs, f.daemon.Rootfs, daemon.NewLogger(f.daemon.Log, stderr))
		})
		if err != nil {
			return failure(err)
		}
	}
	switch f.command {
	case commandBaseline:
		return Baseline(ctx, host, f.baseline)
	case commandCheck:
		return checkTargets(ctx, host, f.target)
	default:
		return Listeners(ctx, host, f.listeners)
	}
}

// checkConfig is --config.check. It touches nothing of the host, so that it
// serves where the daemon does not run.
func (f *flags) checkConfig(ctx context.Context, stdout io.Writer) error {
	warnings, err := f.daemon.Check(ctx)
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		if _, err := fmt.Fprintln(stdout, "warning: "+plain.Text(warning)); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(stdout, "the configuration is valid")
	return err
}
