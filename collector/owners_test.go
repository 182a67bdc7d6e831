package collector

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// TestOwnersAreAbsent is about hosts without this knowledge: they export that, and nothing else.
func TestOwnersAreAbsent(t *testing.T) {
	connection := made(socket.TCP, socket.Established, "10.0.0.5:41100", "10.0.0.9:5432", madeIn(1))
	without := connection
	without.CgroupID = 0
	none := func(context.Context, []uint64) map[uint64]owner.Group { return nil }
	for name, tt := range map[string]struct {
		source porttest.Sockets
		groups Groups
	}{
		"no cgroup v2":             {porttest.Sockets{connection}, nil},
		"a source without cgroups": {porttest.Sockets{without, made(socket.TCP, socket.Listen, "0.0.0.0:80", "")}, none},
	} {
		o := options(tt.source)
		o.Groups = tt.groups
		got := exposition(t, t.Context(), o, Filter{Collectors: []string{"owners"}})
		if !strings.Contains(got, `port_owner_connections_read{netns=""} 0`) || strings.Contains(got, "port_owner_connections{") ||
			strings.Contains(got, "unattributed") || !strings.Contains(got, `port_scrape_collector_success{collector="owners"} 1`) {
			t.Errorf("%s:\n%s", name, got)
		}
	}
	// A host without connections has owners, as its listeners show.
	o := options(porttest.Sockets{made(socket.TCP, socket.Listen, "0.0.0.0:80", "", madeIn(1))})
	o.Groups = none
	if got := exposition(t, t.Context(), o, Filter{Collectors: []string{"owners"}}); !strings.Contains(got, `port_owner_connections_read{netns=""} 1`) {
		t.Errorf("an idle host:\n%s", got)
	}
}

// TestOwnersAreBounded has far more units and ports than have series, and loses no
// connection.
func TestOwnersAreBounded(t *testing.T) {
	var all porttest.Sockets
	const units, ports = 6000, 20
	for unit := range units {
		for port := range ports {
			all = append(all, made(socket.TCP, socket.Established, "10.0.0.5:41100", fmt.Sprintf("10.0.0.9:%d", 1+(unit+port)%30_000), madeIn(uint64(1+unit))))
		}
	}
	o := options(all)
	o.Limits.Owners = 10
	o.Groups = func(_ context.Context, ids []uint64) map[uint64]owner.Group {
		groups := map[uint64]owner.Group{}
		for _, id := range ids {
			if id != 0 {
				groups[id] = owner.Group{Unit: fmt.Sprintf("unit%d.service", id)}
			}
		}
		return groups
	}
	var connections, outbound float64
	series := 0
	families, err := checked(t, t.Context(), o, Filter{Collectors: []string{"owners"}}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			switch family.GetName() {
			case "port_owner_connections":
				connections += m.GetGauge().GetValue()
				series++
			case "port_owner_outbound_connections":
				outbound += m.GetGauge().GetValue()
				series++
			}
		}
	}
	if connections != units*ports || outbound != units*ports {
		t.Errorf("%v connections, %v of them outbound; want %d", connections, outbound, units*ports)
	}
	if limit := 11*2 + 40 + 11; series > limit {
		t.Errorf("%d series, want at most %d", series, limit)
	}
}
