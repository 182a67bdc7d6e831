package examplestest

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestReachabilityInNamespace has the files of examples/reachability, with shorter
// times, say what of a server can be reached through a router that filters. The
// addresses of the files are those of [porttest.Network]; Prometheus is outside.
func TestReachabilityInNamespace(t *testing.T) {
	prometheus := porttest.Program(t, "SKIP-PROMETHEUS", "prometheus")
	dir := porttest.OpenDir(t)
	output(t, "go", "build", "-o", dir, "../..")
	n := porttest.NewNetwork(t)
	n.Router.Do(t, func() {
		porttest.Filter(t, "forward", "tcp dport 22 reject with tcp reset; tcp dport 5432 drop")
	})
	n.Server.Do(t, func() {
		for _, address := range []string{"0.0.0.0:22", "0.0.0.0:443", "0.0.0.0:5432", porttest.ServerIP4 + ":9229", "127.0.0.1:25", "127.0.0.1:6379"} {
			accept(t, address)
		}
		porttest.UDP(t, "0.0.0.0:53")
		porttest.Listen(t, "0.0.0.0:8443", 1)
		for range 2 { // the queue takes one more than its limit
			porttest.Dial(t, porttest.ServerIP4+":8443")
		}
		startExporter(t, dir, "server", porttest.ServerIP4+":10065")
	})
	startExporter(t, dir, "outside", porttest.ClientIP4+":10065")
	for _, address := range []string{porttest.ServerIP4, porttest.ClientIP4} {
		awaitPage(t, address+":10065", "/metrics")
	}
	config := write(t, dir, "prometheus.yml", quick(t, porttest.ReadFile(t, reachability+"/prometheus.yml")))
	write(t, dir, "rules.yml", porttest.ReadFile(t, reachability+"/rules.yml"))
	porttest.Start(t, exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+prometheusAddress, "--log.level=warn"))
	awaitPage(t, prometheusAddress, "/-/ready")

	awaitVerdicts(t, map[string]string{
		"reachable_as_intended":  "0.0.0.0:443 198.51.100.2:10065",
		"reachable_unexpectedly": "198.51.100.2:9229",
		"refused":                "0.0.0.0:22",
		"filtered":               "0.0.0.0:5432",
		"queue_full":             "0.0.0.0:8443",
		"not_listening":          ":25",
	})
	for expr, want := range map[string]int{
		`up{job="reachability"}`: 6, // nothing of UDP or loopback
		`ALERTS{alertname="PortReachableUnexpectedly", port="9229", instance="198.51.100.2:10065", from="outside"}`: 1,
		`ALERTS{alertname="PortIntendedNotReachable", port=~"22|25|8443"}`:                                          3,
		`ALERTS{alertname="PortReachabilityUnknown"}`:                                                               0,
		`{__name__=~"probe_.+"}`: 0, // other rules would take them for targets that must answer
		`port_policy_unexpected_listener{port="9229"} and on (instance, port) listener_from:port_listener_reachable:info`: 1,
	} {
		porttest.Await(t, fmt.Sprintf("%d samples of %s", want, expr), func() bool { return len(ask(t, check{expr, expr, nil})) == want })
	}

	n.Router.Do(t, func() { porttest.NFT(t, "flush ruleset") })
	awaitVerdicts(t, map[string]string{
		"reachable_as_intended":  "0.0.0.0:22 0.0.0.0:443 198.51.100.2:10065",
		"reachable_unexpectedly": "0.0.0.0:5432 198.51.100.2:9229",
		"queue_full":             "0.0.0.0:8443",
		"not_listening":          ":25",
	})
}

// accept takes the connections to an address, and ends them when the client does.
func accept(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	porttest.Serve(t, l, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
}

// startExporter starts an exporter with a configuration of the example.
func startExporter(t *testing.T, dir, name, address string) {
	t.Helper()
	porttest.Start(t, exec.Command(filepath.Join(dir, "port_exporter"),
		"--config.file="+write(t, dir, name+".yml", porttest.ReadFile(t, reachability+"/"+name+".yml")), "--web.listen-address="+address))
}

// quick makes the times of a configuration short.
func quick(t *testing.T, text string) string {
	t.Helper()
	const url = "scope=private\n"
	for _, change := range [][2]string{
		{"scrape_interval: 30s", "scrape_interval: 3s"},
		{"scrape_timeout: 10s", "scrape_timeout: 3s"},
		{"evaluation_interval: 30s", "evaluation_interval: 1s"},
		{url, url + "        refresh_interval: 1s\n"},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("%q is not once in the file", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return text
}

// awaitVerdicts waits for the listeners of each verdict.
func awaitVerdicts(t *testing.T, want map[string]string) {
	t.Helper()
	var got map[string]string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		got = map[string]string{}
		found := map[string][]string{}
		for _, labels := range ask(t, check{"verdicts", "listener_from:port_listener_reachable:info", nil}) {
			found[labels["verdict"]] = append(found[labels["verdict"]], labels["address"]+":"+labels["port"])
		}
		for verdict, listeners := range found {
			slices.Sort(listeners)
			got[verdict] = strings.Join(listeners, " ")
		}
		if cmp.Equal(want, got) {
			return
		}
	}
	t.Fatalf("verdicts (-want +got):\n%s", cmp.Diff(want, got))
}
