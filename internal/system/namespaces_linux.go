package system

import (
	"log/slog"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
)

// namespaces returns what reads the other network namespaces; nil where the source is
// not sock_diag.
func namespaces(s *System, procfs, rootfs string, logger *slog.Logger) Namespaces {
	diag, ok := s.Source.(*sockdiag.Source)
	if !ok {
		return nil
	}
	worker := new(netns.Worker)
	return netns.NewReader(netns.Options{
		Engine:         netns.NewSockDiag(procfs, diag, worker),
		Worker:         worker,
		Procfs:         procfs,
		Rootfs:         rootfs,
		EphemeralPorts: s.EphemeralPorts,
		Logger:         logger,
	})
}
