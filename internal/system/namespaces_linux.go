package system

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/bpfwalk"
	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// otherNamespaces reads the other network namespaces with the engine that is chosen when
// they are first read: to load BPF programs takes a tenth of a second and some megabytes.
type otherNamespaces struct {
	choose func() (reader *netns.Reader, notBPF error)
	now    func() time.Time

	mu     sync.Mutex
	reader *netns.Reader
	notBPF error
	again  time.Time // when it is chosen again; zero is never
}

// namespaces returns what reads the other network namespaces. It walks the tables of all
// of them with BPF where that is possible and sock_diag was not asked for, else it enters
// them. It is nil where the source of our own is neither of the two.
func namespaces(s *System, source, procfs, rootfs string, logger *slog.Logger) Namespaces {
	worker := new(netns.Worker)
	reader := func(engine netns.Engine) *netns.Reader {
		return netns.NewReader(netns.Options{
			Engine:         engine,
			Worker:         worker,
			Procfs:         procfs,
			Rootfs:         rootfs,
			EphemeralPorts: s.EphemeralPorts,
			DefaultPorts:   socket.EphemeralPorts{PortRange: defaultEphemeralPorts},
			Logger:         logger,
		})
	}
	diag, entered := s.Source.(*sockdiag.Source)
	entering := func() *netns.Reader { return reader(netns.NewSockDiag(procfs, diag, worker)) }
	o := &otherNamespaces{now: time.Now}
	switch {
	case s.bpf != nil:
		o.choose = func() (*netns.Reader, error) { return reader(s.bpf), nil }
	case !entered:
		return nil
	case source == SockDiag, s.Fallback != nil: // bpf was not asked for, or was tried
		o.choose = func() (*netns.Reader, error) { return entering(), s.Fallback }
	default:
		o.choose = func() (*netns.Reader, error) {
			ctx, cancel := context.WithTimeout(context.Background(), openPatience)
			defer cancel()
			engine, err := bpfwalk.Open(ctx)
			if err != nil {
				logger.Info("other network namespaces are read with sock_diag", "err", err)
				return entering(), err
			}
			return reader(engine), nil
		}
	}
	return o
}

// chosen returns what reads. A machine that was too busy to try BPF is tried again: the
// exporter may have started together with everything else.
func (o *otherNamespaces) chosen() (*netns.Reader, error) {
	const pause = 10 * time.Minute
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reader == nil || !o.again.IsZero() && o.now().After(o.again) {
		o.reader, o.notBPF = o.choose()
		o.again = time.Time{}
		if errors.Is(o.notBPF, context.DeadlineExceeded) {
			o.again = o.now().Add(pause)
		}
	}
	return o.reader, o.notBPF
}

// Read implements [Namespaces].
func (o *otherNamespaces) Read(ctx context.Context) (netns.Found, error) {
	reader, notBPF := o.chosen()
	found, err := reader.Read(ctx)
	found.NotBPF = notBPF
	return found, err
}

// Missing implements [Namespaces].
func (o *otherNamespaces) Missing() []string {
	reader, _ := o.chosen()
	return reader.Missing()
}
