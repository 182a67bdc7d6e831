package probes

import (
	"context"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// hearing is a prober that remembers what it is asked for.
type hearing struct{ asked []probe.Request }

func (h *hearing) Probe(_ context.Context, r probe.Request) probe.Result {
	h.asked = append(h.asked, r)
	return probe.Result{}
}

// TestHostname checks that the parameter hostname reaches the prober, before that of
// the configuration.
func TestHostname(t *testing.T) {
	for _, tt := range []struct{ name, query, want string }{
		{"none", "target=b:1", ""},
		{"of the configuration", "target=a:1", "configured"},
		{"of the request", "target=b:1&hostname=asked", "asked"},
		{"of both", "target=a:1&hostname=configured", "configured"},
		{"another than that of the configuration", "target=a:1&hostname=asked", "asked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heard := &hearing{}
			m := &probe.Module{Name: "tcp_connect", Kind: probe.KindTCP, Prober: heard}
			plan := &schedule.Plan{Modules: map[string]*probe.Module{"tcp_connect": m}, Targets: []probe.Target{
				{Address: "a:1", Module: m, Hostname: "configured"}, {Address: "b:1", Module: m},
			}, Access: access.Control{Any: true}}
			if status, body := get(server(t, plan).Probe, "/probe?module=tcp_connect&"+tt.query, there); status != 200 {
				t.Fatalf("status %d: %s", status, body)
			}
			if len(heard.asked) != 1 || heard.asked[0].Hostname != tt.want {
				t.Errorf("asked %+v, want the hostname %q", heard.asked, tt.want)
			}
			plan.Access.Any = false
			wanted := 403 // of a hostname that is the client's own
			if tt.want != "asked" {
				wanted = 200
			}
			if status, body := get(server(t, plan).Probe, "/probe?module=tcp_connect&"+tt.query, there); status != wanted {
				t.Errorf("without a rule: status %d, want %d: %s", status, wanted, body)
			}
		})
	}
}
