package published

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// proxyLine is the command line of docker-proxy 20.10, word by word.
var proxyLine = []string{"/usr/bin/docker-proxy", "-proto", "tcp", "-host-ip", "0.0.0.0", "-host-port", "18080", "-container-ip", "172.17.0.2", "-container-port", "8080"}

// conmonLine is the beginning of that of conmon 2.1 under podman 4.3.
var conmonLine = []string{"/usr/bin/conmon", "--api-version", "1", "-c", podmanID, "-u", podmanID, "-r", "/usr/bin/crun", "-n", "web"}

const podmanID = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

func held(process, uid, at string, pid int32) socket.Owned {
	l := listener(at, process)
	l.Owner.UserID, l.Owner.PID = uid, pid
	return l
}

func listener(at, process string) socket.Owned {
	addr := netip.MustParseAddrPort(at)
	o := socket.Owned{Owner: socket.Owner{Process: process}}
	o.Protocol, o.Address, o.Port = socket.TCP, addr.Addr(), addr.Port()
	return o
}

func TestOfProcesses(t *testing.T) {
	arguments := map[int32][]string{
		1: proxyLine, 2: conmonLine, 3: {"docker-proxy", "-proto=udp", "-host-port=18080", "-container-ip=172.17.0.2", "-container-port=53"},
		4: {"docker-proxy", "-container-ip"}, 5: nil, 6: {"docker-proxy", "-proto", "tcp", "-host-port", "18080", "-container-ip", "172.17.0.2", "-container-port", "http\n"},
	}
	udp := held(dockerProxy, "0", "[::]:18080", 3)
	udp.Protocol = socket.UDP
	got := OfProcesses([]socket.Owned{
		held(dockerProxy, "0", "0.0.0.0:18080", 1), held(dockerProxy, "0", "127.0.0.1:18080", 1), held(conmon, "0", "127.0.0.1:18081", 2), udp,
		held(dockerProxy, "1000", "0.0.0.0:18080", 1), // may be anybody's
		held(dockerProxy, "0", "0.0.0.0:18082", 1),    // is that of another port
		held(dockerProxy, "0", "0.0.0.0:18080", 4), held(dockerProxy, "0", "0.0.0.0:18080", 5), held(dockerProxy, "0", "0.0.0.0:18080", 6),
		held(conmon, "0", "0.0.0.0:18080", 5), held("nginx", "0", "0.0.0.0:18080", 1), held(dockerProxy, "0", "0.0.0.0:18080", 0),
	}, func(pid int32) []string { return arguments[pid] })
	at := socket.PortRange{First: 18080, Last: 18080}
	want := []Port{
		{Protocol: socket.TCP, Ports: at, ToAddress: "172.17.0.2", ToPorts: "8080", Via: dockerProxy},
		{Protocol: socket.TCP, Address: "127.0.0.1", Ports: at, ToAddress: "172.17.0.2", ToPorts: "8080", Via: dockerProxy},
		{Protocol: socket.TCP, Address: "127.0.0.1", Ports: socket.PortRange{First: 18081, Last: 18081}, Via: conmon, containerID: podmanID},
		{Protocol: socket.UDP, Ports: at, ToAddress: "172.17.0.2", ToPorts: "53", Via: dockerProxy},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Port{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJoin(t *testing.T) {
	here := netip.MustParseAddr
	web := Place{Identity: netns.Identity{Name: "docker-0123456789ab", ContainerID: "0123456789ab0"}, Addresses: []netip.Addr{here("172.17.0.2"), here("fd00::2")},
		Owned: []socket.Owned{listener("127.0.0.1:8080", "other"), listener("0.0.0.0:8080", "nginx"), listener("172.17.0.2:9000", "exact"), listener("0.0.0.0:9000", "wide")}}
	pod := Place{Identity: netns.Identity{Name: "pod1", PodUID: "1", ContainerID: "5"}, Addresses: []netip.Addr{here("10.0.0.2")}, Owned: []socket.Owned{listener("[::]:80", "v6")}}
	pod.Owned[0].DualStack, pod.Owned[0].Owner.Container = true, "pod1/containerd-1"
	podman := Place{Identity: netns.Identity{Name: "podman-fedcba987654", ContainerID: podmanID}, Addresses: []netip.Addr{here("10.88.0.2")}}
	twin := Place{Identity: netns.Identity{Name: "twin"}, Addresses: []netip.Addr{here("10.88.0.3")}}
	places := []Place{web, pod, podman, twin, twin}

	rule := func(first, last uint16, to, ports string) firewall.Published {
		return firewall.Published{Protocol: firewall.TCP, First: first, Last: last, ToAddress: to, ToPorts: ports, Rule: firewall.Position{Family: 2, Table: "nat", Chain: "DOCKER", Handle: 9}}
	}
	for name, tt := range map[string]struct {
		ports []Port
		want  []string // via, namespace, container, process of each
	}{
		"a rule and the proxy of a port": {
			append(OfRules([]firewall.Published{rule(18080, 18080, "172.17.0.2", "8080")}), Port{Ports: socket.PortRange{First: 18080, Last: 18080}, ToAddress: "172.17.0.2", ToPorts: "8080", Via: dockerProxy}),
			[]string{"dnat", "docker-0123456789ab", "docker-0123456789ab", "nginx"}},
		"the proxy of another port": {
			append(OfRules([]firewall.Published{rule(18080, 18080, "172.17.0.2", "8080")}), Port{Ports: socket.PortRange{First: 18080, Last: 18080}, ToAddress: "172.17.0.2", ToPorts: "1", Via: dockerProxy}),
			[]string{"dnat", "docker-0123456789ab", "docker-0123456789ab", "nginx", "docker-proxy", "docker-0123456789ab", "docker-0123456789ab", ""}},
		"a rule and conmon": {
			append(OfRules([]firewall.Published{rule(18081, 18081, "10.88.0.2", "80")}), Port{Ports: socket.PortRange{First: 18081, Last: 18081}, Via: conmon, containerID: podmanID}),
			[]string{"dnat", "podman-fedcba987654", "podman-fedcba987654", ""}},
		"conmon alone":                   {[]Port{{Ports: socket.PortRange{First: 1, Last: 1}, Via: conmon, containerID: podmanID}}, []string{"conmon", "podman-fedcba987654", "podman-fedcba987654", ""}},
		"an exact address":               {OfRules([]firewall.Published{rule(9000, 9000, "172.17.0.2", "")}), []string{"dnat", "docker-0123456789ab", "docker-0123456789ab", "exact"}},
		"a wildcard of the other family": {OfRules([]firewall.Published{rule(1, 1, "fd00::2", "8080")}), []string{"dnat", "docker-0123456789ab", "docker-0123456789ab", ""}},
		"a pod, and one for both":        {OfRules([]firewall.Published{rule(1, 1, "10.0.0.2", "80")}), []string{"dnat", "pod1", "pod1/containerd-1", "v6"}},
		"a pod without a listener":       {OfRules([]firewall.Published{rule(1, 1, "10.0.0.2", "81")}), []string{"dnat", "pod1", "", ""}},
		"several ports":                  {OfRules([]firewall.Published{rule(8080, 8081, "172.17.0.2", "")}), []string{"dnat", "docker-0123456789ab", "docker-0123456789ab", ""}},
		"an address of two namespaces":   {OfRules([]firewall.Published{rule(1, 1, "10.88.0.3", "80")}), []string{"dnat", "", "", ""}},
		"another host":                   {OfRules([]firewall.Published{rule(1, 1, "192.0.2.1", "80")}), []string{"dnat", "", "", ""}},
		"several addresses":              {OfRules([]firewall.Published{rule(1, 1, "172.17.0.2-172.17.0.3", "8080")}), []string{"dnat", "", "", ""}},
		"this host":                      {OfRules([]firewall.Published{{Protocol: firewall.UDP, First: 53, Last: 53, Redirect: true, ToPorts: "5353"}}), []string{"redirect", "", "", ""}},
	} {
		var got []string
		for _, p := range Join(tt.ports, places) {
			process := ""
			if len(p.Owned) > 0 {
				process = p.Owned[0].Owner.Process
			}
			got = append(got, p.Via, p.Netns, p.Container, process)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
