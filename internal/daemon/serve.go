package daemon

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/common/version"

	"github.com/port-exporter/port_exporter/internal/logs"
	"github.com/port-exporter/port_exporter/internal/system"
	"github.com/port-exporter/port_exporter/internal/web"
)

// Serve serves until ctx ends. On each signal of hangups it reads its configuration
// again.
func Serve(ctx context.Context, o Options, hangups <-chan os.Signal) error {
	door, err := o.openGate(ctx)
	if err != nil {
		return err
	}
	queue := logs.NewQueue(o.Log.Writer)
	defer queue.Close()

	d, err := newDaemon(ctx, o, door, queue)
	if err != nil {
		return err
	}
	defer d.close()
	log.SetFlags(0)
	log.SetOutput(logs.Library{Logger: d.logger})
	collectLessOften(d.system.Name)
	d.boundMemory()
	handler, err := d.handler()
	if err != nil {
		return err
	}
	go d.reloadOn(ctx, hangups)
	go d.reloadOnChange(ctx)
	d.logger.Info("starting", "version", version.Info(), "build", version.BuildContext(), "socket_source", d.system.Name)
	return d.serve(ctx, web.NewServer(handler, d.connections(), d.logger))
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
	d.logger.Info("cgroup limits memory", "limit_bytes", limit, "gomemlimit_bytes", bound)
}

// windowsAddressInUse is WSAEADDRINUSE, which Windows has for EADDRINUSE.
const windowsAddressInUse = syscall.Errno(10048)

// serve runs the server until ctx ends. Then it ends the probes, and lets the
// scrapes that run finish, for a while.
func (d *daemon) serve(ctx context.Context, server *http.Server) error {
	failed := make(chan error, 1)
	go func() { failed <- d.door.ListenAndServe(server, d.options.Web, d.logger, d.system.Own.Opened) }()
	select {
	case err := <-failed:
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, windowsAddressInUse) {
			err = fmt.Errorf("%w\nhint: %s uses this port; stop it, or choose another port with --web.listen-address", err, d.holder(ctx, err))
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
	d.logger.Warn("shutdown timeout, closing requests in flight")
	return server.Close()
}
