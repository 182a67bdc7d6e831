package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/mdlayher/vsock"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"
)

// ListenAndServe serves on the addresses of the flags, or on the sockets of
// systemd, until the server is shut down. The address of each goes to opened. The
// logger has what becomes of the web configuration from then on.
func (g *Gate) ListenAndServe(server *http.Server, flags *toolkit.FlagConfig, logger *slog.Logger, opened func(net.Addr)) error {
	listeners, err := listen(flags, logger)
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	if err != nil {
		return err
	}
	for _, l := range listeners {
		opened(l.Addr())
	}
	g.checking.Lock()
	g.logger = logger
	g.checking.Unlock()
	server.Handler = g.Handler(server.Handler)
	server.TLSConfig = g.TLS()
	secure := server.TLSConfig != nil // net/http sets it while it serves
	if secure && !g.inForce.Load().HTTPConfig.HTTP2 {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
	}
	var serving errgroup.Group
	for _, l := range listeners {
		logger.Info("Listening on", "address", l.Addr().String())
		logger.Info("TLS", "enabled", secure, "address", l.Addr().String())
		serving.Go(func() error {
			err := serveOn(l, server, secure)
			if !errors.Is(err, http.ErrServerClosed) {
				_ = server.Close() // an address that is not served is an end, not half a server
			}
			return err
		})
	}
	return serving.Wait()
}

func serveOn(l net.Listener, server *http.Server, secure bool) error {
	if !secure {
		return server.Serve(l)
	}
	return server.ServeTLS(l, "", "")
}

// listen returns the listeners, those before an error too.
func listen(flags *toolkit.FlagConfig, logger *slog.Logger) ([]net.Listener, error) {
	if *flags.WebSystemdSocket {
		logger.Info("listening on the sockets of systemd")
		listeners, err := activation.Listeners()
		if err == nil && len(listeners) == 0 {
			err = errors.New("--web.systemd-socket: systemd passed no socket\nhint: start it with a .socket unit")
		}
		return listeners, err
	}
	var listeners []net.Listener
	for _, address := range *flags.WebListenAddresses {
		l, err := listenOn(address)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func listenOn(address string) (net.Listener, error) {
	if !strings.HasPrefix(address, "vsock://") {
		return new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("--web.listen-address=%s: %w", address, err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("--web.listen-address=%s: %w", address, err)
	}
	return vsock.Listen(uint32(port), nil)
}
