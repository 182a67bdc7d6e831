//go:build !linux

package owner

import (
	"context"
	"log/slog"

	psprocess "github.com/shirou/gopsutil/v3/process"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// NewProcesses returns a host that asks gopsutil for the process that the source
// named beside each socket.
func NewProcesses(_, _ string, _ *slog.Logger) Processes { return gopsutilHost{} }

type gopsutilHost struct{}

// Find implements [Processes].
func (h gopsutilHost) Find(ctx context.Context, members []socket.Member, report func(uint64, Found)) {
	for _, m := range members {
		if m.PID == 0 {
			continue
		}
		if p, ok := h.read(ctx, m.PID); ok {
			report(m.ID(), Found{Fate: Held, Process: p})
		}
	}
}

// Look implements [Processes]. That the process still holds the sockets is what the
// source says.
func (h gopsutilHost) Look(ctx context.Context, known Process, members []socket.Member) Sight {
	p, ok := h.read(ctx, known.PID)
	held := map[uint64]bool{}
	for _, m := range members {
		held[m.ID()] = m.PID == known.PID
	}
	return Sight{Process: p, Held: held, Gone: !ok || p.Start != known.Start}
}

func (gopsutilHost) read(ctx context.Context, pid int32) (Process, bool) {
	p, err := psprocess.NewProcessWithContext(ctx, pid)
	if err != nil {
		return Process{}, false
	}
	name, err := p.NameWithContext(ctx)
	if err != nil {
		return Process{}, false
	}
	// What the system does not report stays empty.
	executable, _ := p.ExeWithContext(ctx)
	user, _ := p.UsernameWithContext(ctx)
	created, _ := p.CreateTimeWithContext(ctx)
	return Process{
		Owner: socket.Owner{Process: name, Executable: executable, User: user, PID: pid},
		Start: uint64(created),
	}, true
}

// Unit implements [Processes].
func (gopsutilHost) Unit(context.Context, socket.Member) (unit, container string) { return "", "" }

// Missing implements [Processes].
func (gopsutilHost) Missing() []string { return nil }

// Names implements [Processes].
func (gopsutilHost) Names() Names { return Names{Look: systemName} }
