package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

func unixListener(path string, o socket.Owner) socket.Owned {
	name := socket.UnixName{Path: path, Abstract: path[0] == '@'}
	return socket.Owned{Listener: socket.NewUnix(name, socket.Member{}), Owner: o}
}

func TestUnixRules(t *testing.T) {
	unix := []socket.Protocol{socket.Unix}
	rules := []Rule{
		{Name: "any port"},
		{Name: "no secrets", Protocols: unix, Paths: []string{"/run/secret/*"}, Forbid: true},
		{Name: "pools", Protocols: unix, Paths: []string{"/run/php/*.sock", "@pool-?"}, Processes: []string{"php-fpm*"}},
		{Name: "docker", Protocols: unix, Paths: []string{"/run/docker.sock"}, Required: true},
		{Name: "not there", Protocols: unix, Paths: []string{"/run/gone.sock"}, Required: true},
	}
	fpm := socket.Owner{Process: "php-fpm8.2", User: "root"}
	listeners := []socket.Owned{
		unixListener("/run/php/a.sock", fpm), unixListener("/run/php/b.sock", fpm), unixListener("@pool-1", fpm),
		unixListener("/run/php/deep/a.sock", fpm), // * stops at a slash
		unixListener("/run/php/c.sock", socket.Owner{}),
		unixListener("/run/secret/x\n", fpm),
		unixListener("/run/docker.sock", socket.Owner{}),
		{Listener: socket.Listener{ListenerID: socket.ListenerID{Protocol: socket.TCP, Port: 80}}},
	}
	f := Evaluate(rules, listeners, today)
	want := []Verdict{{Expected, 2}, {Expected, 2}, {Expected, 2}, {Unexpected, noRule}, {Unverified, 2}, {Forbidden, 1}, {Expected, 3}, {Expected, 0}}
	if diff := cmp.Diff(want, f.Verdicts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]int{{1, 1, 3, 1, 0}, {4}}, [][]int{f.Matches, f.Missing}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if NamesUnix(rules[:1]) || !NamesUnix(rules) {
		t.Error("which policies are about unix listeners?")
	}
}

func TestLintUnix(t *testing.T) {
	unix := []socket.Protocol{socket.Unix}
	rules := []Rule{
		{Name: "a", Paths: []string{"/run/a"}},
		{Name: "b", Protocols: []socket.Protocol{socket.Unix, socket.TCP}, Ports: ports(1, 1), Paths: []string{"/run/a"}},
		{Name: "c", Protocols: unix, Paths: []string{"/run/*"}},
		{Name: "d", Protocols: unix, Paths: []string{"/run/a.sock"}},
		{Name: "e", Protocols: unix, Paths: []string{"/run/**"}},
		{Name: "f", Protocols: unix, Processes: []string{"p"}, Required: true},
		{Name: "g", Protocols: unix, Paths: []string{"/var/run/g"}, Required: true},
	}
	want := []string{
		"0 error: path is for unix listeners only",
		"1 error: path is for unix listeners only",
		`3 warning: rule can never match: rules[2] "c" comes first and covers it`,
		"5 warning: required rule that one of several unix listeners satisfies",
	}
	if diff := cmp.Diff(want, lint(rules)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each owner has a rule, with patterns for what looks random.
func TestBaselineOfUnix(t *testing.T) {
	unix := []socket.Protocol{socket.Unix}
	docker := socket.Owner{Process: "dockerd", User: "root", Unit: "docker.service"}
	shim := socket.Owner{Process: "containerd-shim", User: "root", Unit: "containerd.service"}
	got := Baseline([]socket.Owned{
		unixListener("/run/docker.sock", docker), unixListener("/run/docker/metrics.sock", docker),
		unixListener("/run/containerd/s/0f0c52e6d1b36f0c", shim), unixListener("/run/containerd/s/1f0c52e6d1b36f0c", shim),
		unixListener("/tmp/odd*?\n", socket.Owner{}),
	}, Options{Now: today})
	want := []Rule{
		{Name: "containerd-shim unix /run/containerd/s/*", Protocols: unix, Paths: []string{"/run/containerd/s/*"}, Processes: []string{"containerd-shim"}, Users: []string{"root"}, Units: []string{"containerd.service"}},
		{Name: "dockerd unix /run/docker.sock,/run/docker/metrics.sock", Protocols: unix, Paths: []string{"/run/docker.sock", "/run/docker/metrics.sock"}, Processes: []string{"dockerd"}, Users: []string{"root"}, Units: []string{"docker.service"}},
		{Name: `unix /tmp/odd\*\??`, Protocols: unix, Paths: []string{`/tmp/odd\*\??`}, Comment: "its process could not be read when this rule was written"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
