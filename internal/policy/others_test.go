package policy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// elsewhere returns a listener of another network namespace.
func elsewhere(netns, bound string, o socket.Owner, w socket.Workload) socket.Owned {
	l := listener(bound, o)
	l.Netns, l.Workload = netns, &w
	return l
}

const (
	dockerID = "0123456789abcdef"
	docker   = "docker-0123456789ab"
)

func TestRulesAboutOthers(t *testing.T) {
	app := socket.Owner{Process: "app", User: "0", Container: docker}
	web := socket.Workload{Runtime: "docker", ContainerID: dockerID, Container: "web"}
	pod := socket.Workload{Runtime: "containerd", ContainerID: dockerID, PodUID: "2b0c5a1e", Pod: "web-0", Namespace: "shop"}
	inPod := socket.Owner{Process: "app", User: "0", Container: "pod2b0c5a1e/containerd-fedcba987654"}
	for _, tt := range []struct {
		what     string
		rule     Rule
		listener socket.Owned
		want     match
	}{
		{"a rule that names none", Rule{}, elsewhere(docker, "0.0.0.0:80", app, web), no},
		{"all", Rule{Netns: []string{"*"}}, elsewhere(docker, "0.0.0.0:80", app, web), yes},
		{"all", Rule{Netns: []string{"*"}}, listener("0.0.0.0:80", app), yes},
		{"all others", Rule{Netns: []string{"?*"}}, listener("0.0.0.0:80", app), no},
		{"the container by its id", Rule{Netns: []string{"*"}, Containers: []string{docker}}, elsewhere(docker, "0.0.0.0:80", app, web), yes},
		{"the container by its name", Rule{Netns: []string{"*"}, Containers: []string{"web"}}, elsewhere(docker, "0.0.0.0:80", app, web), yes},
		{"another name", Rule{Netns: []string{"*"}, Containers: []string{"db"}}, elsewhere(docker, "0.0.0.0:80", app, web), no},
		{"a name that is hidden", Rule{Netns: []string{"*"}, Containers: []string{"web"}}, elsewhere(docker, "0.0.0.0:80", app, socket.Workload{Runtime: "docker", ContainerID: dockerID}), maybe},
		{"a name of another container in it", Rule{Netns: []string{"*"}, Containers: []string{"web"}},
			elsewhere(docker, "0.0.0.0:80", socket.Owner{Process: "app", Container: "docker-ba9876543210"}, web), no},
		{"the name of a host's container", Rule{Containers: []string{"web"}}, listener("0.0.0.0:80", app), no},

		{"the pod", Rule{Pods: []string{"web-*"}}, elsewhere("pod2b0c5a1e", "0.0.0.0:80", inPod, pod), yes},
		{"with its namespace", Rule{Pods: []string{"shop/web-*"}}, elsewhere("pod2b0c5a1e", "0.0.0.0:80", inPod, pod), yes},
		{"of another namespace", Rule{Pods: []string{"kube-system/*"}}, elsewhere("pod2b0c5a1e", "0.0.0.0:80", inPod, pod), no},
		{"of a namespace that is hidden", Rule{Pods: []string{"kube-system/*"}}, elsewhere("pod2b0c5a1e", "0.0.0.0:80", inPod, socket.Workload{PodUID: "2b0c5a1e", Pod: "web-0"}), maybe},
		{"a pod that is hidden", Rule{Pods: []string{"web-*"}}, elsewhere("pod2b0c5a1e", "0.0.0.0:80", inPod, socket.Workload{PodUID: "2b0c5a1e"}), maybe},
		{"what runs there is hidden", Rule{Pods: []string{"web-*"}}, elsewhere("other", "0.0.0.0:80", socket.Owner{}, socket.Workload{Hidden: true}), maybe},
		{"no pod", Rule{Pods: []string{"*"}}, elsewhere(docker, "0.0.0.0:80", app, web), no},
		{"the host", Rule{Pods: []string{"*"}}, listener("0.0.0.0:80", app), no},
	} {
		if got := tt.rule.matches(&tt.listener); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}

func TestNamesOthers(t *testing.T) {
	for _, tt := range []struct {
		rule Rule
		want bool
	}{
		{Rule{}, false}, {Rule{Netns: []string{""}}, false}, {Rule{Containers: []string{"docker-*"}}, false},
		{Rule{Netns: []string{"", "blue"}}, true}, {Rule{Netns: []string{"*"}}, true}, {Rule{Pods: []string{"web"}}, true},
	} {
		if got := NamesOthers([]Rule{{}, tt.rule}); got != tt.want {
			t.Errorf("%+v: %t", tt.rule, got)
		}
	}
	udp := socket.Socket{Protocol: socket.UDP, Local: netip.MustParseAddrPort("0.0.0.0:5353")}
	here, there := []Rule{{Ports: ports(5353, 5353)}}, []Rule{{Netns: []string{"?*"}, Ports: ports(5353, 5353)}}
	if !Named(here)(&udp) || NamedElsewhere(here)(&udp) || Named(there)(&udp) || !NamedElsewhere(there)(&udp) {
		t.Error("a rule about another network namespace names a port of this one, or the reverse")
	}
}

// TestBaselineOfOthers has what the next deployment changes as a pattern.
func TestBaselineOfOthers(t *testing.T) {
	app := socket.Owner{Process: "app", User: "0", Container: docker}
	pod := func(name string) socket.Owned {
		return elsewhere("pod2b0c5a1e-0000-4000-8000-000000000000", "0.0.0.0:8080", socket.Owner{Process: "app", User: "0", Container: "pod2b0c5a1e-0000-4000-8000-000000000000/containerd-0123456789ab"},
			socket.Workload{PodUID: "2b0c5a1e", Pod: name, Namespace: "shop"})
	}
	listeners := []socket.Owned{
		listener("0.0.0.0:80", socket.Owner{Process: "nginx", User: "root"}),
		elsewhere(docker, "0.0.0.0:80", app, socket.Workload{Runtime: "docker", ContainerID: dockerID, Container: "web"}),
		elsewhere("docker-ba9876543210", "0.0.0.0:81", socket.Owner{Process: "app", User: "0", Container: "docker-ba9876543210"}, socket.Workload{Runtime: "docker"}),
		pod("web-7d4b9c6f5d-x2k9p"), pod("web-7d4b9c6f5d-zzzzz"), pod("db-0"), pod("node-agent-x2k9p"), pod("coffee-house"),
	}
	rules := Baseline(listeners, Options{Now: today})
	var got []string
	for _, r := range rules {
		got = append(got, strings.Join([]string{few(r.Netns), few(r.Pods), few(r.Containers), few(portNames(r.Ports))}, " "))
	}
	want := []string{"docker-*  web 80", "   80", "docker-*  docker-* 81", " shop/coffee-house  8080", " shop/db-*  8080", " shop/node-agent-*  8080", " shop/web-*  8080"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	listeners[4].Workload = &socket.Workload{PodUID: "3b0c5a1e", Pod: "web-8888888888-88888", Namespace: "shop"} // after a deployment
	for i, v := range Evaluate(rules, listeners, today).Verdicts {
		if v.Kind != Expected {
			t.Errorf("%d: %v", i, v)
		}
	}
}
