package cli

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/common/version"
	"google.golang.org/grpc/grpclog"

	"github.com/port-exporter/port_exporter/internal/logs"
)

// Main is the program: it runs the command line that it was started with, and ends with
// the exit status.
func Main() {
	grpclog.SetLoggerV2(logs.GRPC{})
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
	if err := Run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		os.Exit(Status(ctx, os.Stderr, err))
	}
}

// lastResort is how long after a signal the daemon ends whatever it waits for: more
// than it gives scrapes to finish, and less than systemd waits.
const lastResort = 15 * time.Second
