package system

import (
	"context"
	"log/slog"
	"sync"

	"github.com/port-exporter/port_exporter/internal/bpfwalk"
	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
)

// otherNamespaces reads the other network namespaces with the engine that is chosen when
// they are first read: to load BPF programs takes a tenth of a second and some megabytes.
type otherNamespaces struct {
	choose func() (reader *netns.Reader, notBPF error)
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
			Logger:         logger,
		})
	}
	if s.bpf != nil {
		return otherNamespaces{func() (*netns.Reader, error) { return reader(s.bpf), nil }}.once()
	}
	diag, ok := s.Source.(*sockdiag.Source)
	if !ok {
		return nil
	}
	entering := func() *netns.Reader { return reader(netns.NewSockDiag(procfs, diag, worker)) }
	if source == SockDiag {
		return otherNamespaces{func() (*netns.Reader, error) { return entering(), nil }}.once()
	}
	if s.Fallback != nil { // bpf was asked for, and tried
		return otherNamespaces{func() (*netns.Reader, error) { return entering(), s.Fallback }}.once()
	}
	return otherNamespaces{func() (*netns.Reader, error) {
		ctx, cancel := context.WithTimeout(context.Background(), openPatience)
		defer cancel()
		engine, err := bpfwalk.Open(ctx)
		if err != nil {
			logger.Info("other network namespaces are read with sock_diag", "err", err)
			return entering(), err
		}
		return reader(engine), nil
	}}.once()
}

func (o otherNamespaces) once() otherNamespaces { return otherNamespaces{sync.OnceValues(o.choose)} }

// Read implements [Namespaces].
func (o otherNamespaces) Read(ctx context.Context) (netns.Found, error) {
	reader, notBPF := o.choose()
	found, err := reader.Read(ctx)
	found.NotBPF = notBPF
	return found, err
}

// Missing implements [Namespaces].
func (o otherNamespaces) Missing() []string {
	reader, _ := o.choose()
	return reader.Missing()
}
