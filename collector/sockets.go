package collector

import (
	"context"

	"github.com/port-exporter/port_exporter/internal/socket"
)

var socketCount = gauge("port_sockets",
	"Sockets by address family, protocol and state.",
	"netns", "family", "protocol", "state")

// sockets counts every socket of the host.
type sockets struct{ protocols []socket.Protocol }

func (sockets) Name() string { return "sockets" }

func (sockets) Families() []*Family { return []*Family{socketCount} }

func (c sockets) Collect(_ context.Context, host *Snapshot, out *Output) error {
	table, traffic, err := host.Connections()
	if err != nil {
		return err
	}
	for _, p := range c.protocols {
		for _, f := range socket.Families() {
			for _, state := range p.States() {
				n := table.Totals[p][f][state] + traffic.Totals[p][f][state]
				out.add(socketCount, float64(n), hostNetns, f.String(), p.String(), state.String())
			}
		}
	}
	return nil
}
