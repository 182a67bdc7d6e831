package socket

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func madeIn(cgroup uint64) func(*Socket) {
	return func(s *Socket) { s.CgroupID = cgroup }
}

func cgroupsOf(t *testing.T, sockets ...Socket) []CgroupFlow {
	t.Helper()
	table := mustRead(t, host, tcp(Listen, "0.0.0.0:80", ""))
	got, err := ReadConnections(seq(sockets...), table, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got.Cgroups
}

func TestCgroups(t *testing.T) {
	got := cgroupsOf(t,
		tcp(Established, "10.0.0.1:80", "10.0.0.2:40000", madeIn(7)),
		tcp(CloseWait, "10.0.0.1:80", "10.0.0.2:40001", madeIn(7)),
		tcp(TimeWait, "10.0.0.1:80", "10.0.0.2:40002"),
		tcp(SynRecv, "10.0.0.1:80", "10.0.0.2:40003"),
		tcp(Established, "10.0.0.1:8080", "10.0.0.2:40004", madeIn(7)), // its listener is gone
		tcp(Established, "10.0.0.1:40000", "10.0.0.2:443", madeIn(7)),
		tcp(Established, "10.0.0.1:40001", "10.0.0.2:443", madeIn(3)),
		tcp(SynSent, "10.0.0.1:40002", "10.0.0.2:443", madeIn(3)),
		tcp(Established, "10.0.0.1:40003", "10.0.0.2:50000", madeIn(3)),
	)
	want := []CgroupFlow{
		{ID: 3, Outbound: StateCounts{Established: 2, SynSent: 1}, Ports: []CgroupPort{{443, false, 2}, {50000, true, 1}}},
		{ID: 7, Inbound: StateCounts{Established: 2, CloseWait: 1}, Outbound: StateCounts{Established: 1}, Ports: []CgroupPort{{443, false, 1}}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(CgroupFlow{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestCgroupsAreBounded has a cgroup that calls every port, and more cgroups than are
// counted apart. None of them is lost, and that which comes late has its ports.
func TestCgroupsAreBounded(t *testing.T) {
	var sockets []Socket
	for port := 1; port < 1<<16; port++ {
		sockets = append(sockets, tcp(Established, "10.0.0.1:40000", fmt.Sprintf("10.0.0.2:%d", port), madeIn(1)))
	}
	for id := uint64(2); id < 2*maxCgroups; id++ {
		sockets = append(sockets, tcp(Established, "10.0.0.1:40000", "10.0.0.2:443", madeIn(id)))
	}
	got := cgroupsOf(t, sockets...)
	total, pairs := 0, 0
	for _, f := range got {
		ofPorts := 0
		for _, p := range f.Ports {
			ofPorts += p.Sockets
		}
		if ofPorts != f.Sockets() {
			t.Errorf("cgroup %d: %d by port, %d in all", f.ID, ofPorts, f.Sockets())
		}
		total, pairs = total+f.Sockets(), pairs+len(f.Ports)
	}
	if total != len(sockets) || len(got) != maxCgroups+1 || pairs > maxCgroupPorts+maxCgroups {
		t.Errorf("%d of %d sockets in %d cgroups with %d ports", total, len(sockets), len(got), pairs)
	}
	late := slices.IndexFunc(got, func(f CgroupFlow) bool { return f.ID == maxCgroups })
	if late < 0 || len(got[late].Ports) != 1 || got[late].Ports[0].Port != 443 {
		t.Errorf("the last cgroup: %+v", got[late])
	}
}
