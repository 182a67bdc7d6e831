// Package cli holds the commands that look once and end: listeners, baseline and
// check.
package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
)

// ExitError ends the program with a status of its own. Its message, if any, is
// for standard error.
type ExitError struct {
	Code    int
	Message string
}

func (e *ExitError) Error() string { return e.Message }

// The statuses of the commands, as of grep(1): 1 says that there is a finding,
// 2 that the command could not do its work. 3 says that it could not read all that
// it was to judge, and found nothing else.
const (
	statusFinding    = 1
	statusFailure    = 2
	statusUnverified = 3
)

// Failure makes an error of a command one that ends with status 2.
func Failure(err error) error { return &ExitError{Code: statusFailure, Message: err.Error()} }

// Host is what a command looks at.
type Host struct {
	System *system.System
	Config *config.Config
	Stdout io.Writer
	Stderr io.Writer
	Now    time.Time // at which policies are to hold; zero is the present
}

// read returns the listeners of the host with their owners.
func (h *Host) read(ctx context.Context) (owner.Result, error) {
	ports, err := h.System.EphemeralPorts()
	if err != nil {
		fmt.Fprintf(h.Stderr, "ephemeral port range cannot be read, taking %d-%d: %v\n", ports.First, ports.Last, err)
	}
	host := socket.Host{Ephemeral: ports, LongLived: policy.Named(h.Config.Policy)}
	table, err := socket.ReadListening(h.System.Source.Sockets(ctx, socket.Listening), host)
	if err != nil {
		return owner.Result{}, err
	}
	return h.System.Owners.Owners(ctx, table.Listeners), nil
}

// sayMissing says on standard error what could not be seen.
func (h *Host) sayMissing(owners owner.Result) {
	if owners.Unattributed == 0 {
		return
	}
	fmt.Fprintf(h.Stderr, "the process of %d of the listeners is not known", owners.Unattributed)
	if len(owners.Missing) > 0 {
		fmt.Fprintf(h.Stderr, "\nhint: run as root, or with %s", strings.Join(owners.Missing, " and "))
	}
	fmt.Fprintln(h.Stderr)
}
