package main

import (
	"flag"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// proxyRole makes the test a docker-proxy: it holds a port as its command line says, which
// is that of docker-proxy 20.10.
const proxyRole = "docker-proxy"

func serveAsProxy() {
	proto := flag.String("proto", "tcp", "")
	ip, port := flag.String("host-ip", "", ""), flag.String("host-port", "", "")
	flag.String("container-ip", "", "")
	flag.String("container-port", "", "")
	flag.Parse()
	serveUntilEnd(*proto, net.JoinHostPort(*ip, *port))
}

// dockerRules are those of docker for two published ports, behind one of which nothing
// listens.
const dockerRules = `table ip nat {
	chain DOCKER {
		iifname != "docker0" tcp dport 18080 dnat to 172.17.0.2:8080
		iifname != "docker0" tcp dport 18090 dnat to 172.17.0.2:9999
	}
	chain prerouting {
		type nat hook prerouting priority dstnat;
		fib daddr type local jump DOCKER
	}
}
`

// TestPublishedInNamespace has a host, a client of it, and a container made by hand, whose
// ports the rules and the proxies of docker publish: what the rows say of a port is what the
// client finds there.
func TestPublishedInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	host, client, container := porttest.NewSpace(t), porttest.NewSpace(t), porttest.NewSpace(t)
	container.Connect(t, "eth0", host, "docker0")
	client.Connect(t, "eth0", host, "eth0")
	const label = "docker-0f1e2d3c4b5a"
	cgroup := dockerCgroup(t, "0f1e2d3c4b5a")
	container.Do(t, func() {
		porttest.Address(t, "eth0", "172.17.0.2/16")
		porttest.Route(t, "0.0.0.0/0", "172.17.0.1")
		cgroup.Do(t, func() { startListener(t, "0.0.0.0:8080") })
	})
	client.Do(t, func() { porttest.Address(t, "eth0", "192.0.2.2/24") })
	host.Do(t, func() {
		porttest.Address(t, "docker0", "172.17.0.1/16")
		porttest.Address(t, "eth0", "192.0.2.1/24")
		porttest.Sysctl(t, "net/ipv4/ip_forward", "1")
		porttest.NFT(t, dockerRules)
		for _, held := range []string{"0.0.0.0 -host-port 18080", "127.0.0.1 -host-port 18081"} {
			args := strings.Fields("-proto tcp -host-ip " + held + " -container-ip 172.17.0.2 -container-port 8080")
			porttest.StartReady(t, exec.Command(proxyRole, args...))
		}
	})
	client.Do(t, func() {
		for port, want := range map[int]error{18080: nil, 18090: unix.ECONNREFUSED} {
			if _, err := porttest.TryDial(t, fmt.Sprintf("192.0.2.1:%d", port)); err != want { //nolint:errorlint // the number of the kernel
				t.Errorf("port %d: %v, want %v", port, err, want)
			}
		}
	})
	host.Do(t, func() {
		wantPublishedRows(t, label)
		wantPublishedSeries(t, label)
	})
}

func wantPublishedRows(t *testing.T, label string) {
	t.Helper()
	for _, args := range [][]string{{}, {"--all-namespaces"}} {
		table, said, status := porttest.EndedAs(t, nil, append([]string{"port_exporter", "listeners"}, args...)...)
		for _, want := range []string{
			`tcp +\* +18080 +published +- +to 172\.17\.0\.2 port 8080: ` + serverRole + ` \(ip nat DOCKER handle \d+\) +- +root +- +` + label,
			`tcp +\* +18090 +published +- +to 172\.17\.0\.2 port 9999: nothing listens there \(ip nat DOCKER handle \d+\) +- +- +- +` + label,
			`tcp +127\.0\.0\.1 +18081 +published +- +to 172\.17\.0\.2 port 8080: ` + serverRole + ` \(docker-proxy\) +- +root +- +` + label,
		} {
			if found := regexp.MustCompile(`(?m)^`+strings.Replace(want, `tcp +\*`, `tcp +\*.*?`, 1)).FindAllString(table, -1); len(found) != 1 {
				t.Errorf("%q: %d rows are %s:\n%s\nstatus %d, said %s", args, len(found), want, table, status, said)
			}
		}
	}
}

func wantPublishedSeries(t *testing.T, label string) {
	t.Helper()
	porttest.StartDaemon(t, "port_exporter", "--collector.firewall", "--collector.namespaces")
	for _, want := range []string{
		`container="` + label + `",ephemeral="false",[^}]*port="18080",protocol="tcp",source="ip nat DOCKER",to_address="172.17.0.2",to_netns="` + label + `",to_port="8080",via="dnat"`,
		`address="127.0.0.1",container="` + label + `",[^}]*port="18081",protocol="tcp",source="",to_address="172.17.0.2",to_netns="` + label + `",to_port="8080",via="docker-proxy"`,
	} {
		pattern := regexp.MustCompile(`port_published_info{[^}]*` + want + `} 1`)
		var body string
		porttest.Await(t, want, func() bool {
			_, body = porttest.Get(t, porttest.ScrapeAddress, "/metrics")
			return pattern.MatchString(body)
		})
		if n := strings.Count(body, "\nport_published_info{"); n != 3 {
			t.Errorf("%d series of published ports", n)
		}
	}
}
