package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestOwnersOfConnectionsInNamespace has two units, one with a cgroup of its own below
// it, and two containers that talk to each other. Their sockets keep the cgroup that
// made them, although the process has moved on; TIME_WAIT and SYN_RECV have none, and a
// cgroup that was removed is unknown. ss says the same of each socket.
func TestOwnersOfConnectionsInNamespace(t *testing.T) {
	const id, pod = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "11111111-2222-3333-4444-555555555555"
	porttest.Namespace(t)
	web := porttest.NewCgroup(t, "system.slice/web.service")
	app := porttest.NewCgroup(t, "system.slice/app.service/worker")
	docker := porttest.NewCgroup(t, "system.slice/docker-"+id+".scope")
	kube := porttest.NewCgroup(t, "kubepods.slice/pod"+pod+"/cri-containerd-"+id+".scope")
	gone := porttest.NewCgroup(t, "system.slice/gone.service")

	var http, sql int
	web.Do(t, func() {
		http = porttest.Listen(t, "127.0.0.1:8080", 16)
		porttest.Listen(t, "127.0.0.1:8083", 16)
	})
	docker.Do(t, func() { sql = porttest.Listen(t, "127.0.0.1:5432", 16) })
	porttest.Filter(t, "output", "tcp sport 8083 tcp flags & (syn|ack) == (syn|ack) drop")

	app.Do(t, func() {
		for range 3 {
			porttest.Dial(t, "127.0.0.1:8080")
			porttest.Accept(t, http)
		}
		porttest.StartDial(t, "127.0.0.1:8083")
	})
	web.Do(t, func() {
		for range 2 {
			porttest.Dial(t, "127.0.0.1:5432")
			porttest.Accept(t, sql)
		}
	})
	kube.Do(t, func() {
		porttest.Dial(t, "127.0.0.1:5432")
		porttest.CloseWrite(t, porttest.Accept(t, sql))
		closing := porttest.Dial(t, "127.0.0.1:8080") // leaves TIME_WAIT at the service
		accepted := porttest.Accept(t, http)
		porttest.Close(t, accepted)
		porttest.Close(t, closing)
	})
	gone.Do(t, func() {
		porttest.Dial(t, "127.0.0.1:5432")
		porttest.Accept(t, sql)
	})
	porttest.Await(t, "the cgroup to be empty", func() bool { return os.Remove(string(gone)) == nil })

	porttest.StartDaemon(t, "port_exporter")
	kubeContainer := `container="pod` + pod + `/containerd-` + id[:12] + `"`
	want := map[string]string{
		`port_owner_connections{container="",direction="inbound",netns="",state="established",unit="web.service"}`:            "3",
		`port_owner_connections{container="",direction="outbound",netns="",state="established",unit="web.service"}`:           "2",
		`port_owner_connections{container="",direction="outbound",netns="",state="established",unit="app.service"}`:           "3",
		`port_owner_connections{container="",direction="outbound",netns="",state="syn_sent",unit="app.service"}`:              "1",
		`port_owner_connections{container="docker-` + id[:12] + `",direction="inbound",netns="",state="established",unit=""}`: "3",
		`port_owner_connections{container="docker-` + id[:12] + `",direction="inbound",netns="",state="fin_wait2",unit=""}`:   "1",
		`port_owner_connections{` + kubeContainer + `,direction="outbound",netns="",state="close_wait",unit=""}`:              "1",
		`port_owner_outbound_connections{container="",netns="",remote_port="5432",unit="web.service"}`:                        "2",
		`port_owner_outbound_connections{container="",netns="",remote_port="8080",unit="app.service"}`:                        "3",
		`port_owner_outbound_connections{container="",netns="",remote_port="8083",unit="app.service"}`:                        "1",
		`port_owner_outbound_connections{` + kubeContainer + `,netns="",remote_port="5432",unit=""}`:                          "1",
		`port_owner_connections_unattributed{netns=""}`:                                                                       "1",
		`port_owner_connections_read{netns=""}`:                                                                               "1",
	}
	if diff := cmp.Diff(want, ownedConnections(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	compareCgroups(t, strings.TrimPrefix(porttest.CgroupTop(t), porttest.CgroupRoot(t)))
}

// ownedConnections are the samples of the collector that are not 0, without those of
// the test's own cgroup.
func ownedConnections(t *testing.T) map[string]string {
	t.Helper()
	status, body := porttest.Get(t, porttest.ScrapeAddress, "/metrics?collect[]=owners")
	if status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	got := map[string]string{}
	for line := range strings.Lines(body) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		named := strings.Contains(series, `unit="web`) || strings.Contains(series, `unit="app`) || strings.Contains(series, `container="docker-0123`) || strings.Contains(series, `container="pod1`)
		if value != "0" && strings.HasPrefix(series, "port_owner_connections_") || value != "0" && named {
			got[series+"}"] = value
		}
	}
	return got
}

// compareCgroups holds the cgroups that ss shows to what the test made.
func compareCgroups(t *testing.T, top string) {
	t.Helper()
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("SKIP-SS: ss (iproute2) is not installed")
	}
	out, err := exec.Command("ss", "-tinemaH", "--cgroup").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	row := regexp.MustCompile(`^(\S+) .*:(?:8080|8083|5432)\s.*cgroup:(?:` + regexp.QuoteMeta(top) + `)?(\S+)`)
	for line := range strings.Lines(string(out)) {
		if m := row.FindStringSubmatch(line); m != nil && m[1] != "LISTEN" {
			name, _, _ := strings.Cut(m[2], ":")
			got[m[1]+" "+filepath.Base(name)[:min(6, len(filepath.Base(name)))]]++
		}
	}
	want := map[string]int{
		"ESTAB web.se": 5, "ESTAB worker": 3, "SYN-SENT worker": 1, "ESTAB docker": 3, "FIN-WAIT-2 docker": 1, "CLOSE-WAIT cri-co": 1, "ESTAB unreac": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ss (-want +got):\n%s\n%s", diff, out)
	}
}
