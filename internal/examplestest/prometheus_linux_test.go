package examplestest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const prometheusAddress = "127.0.0.1:9090"

// exporters are the targets of the test's Prometheus: one on a host with a
// policy, one without privileges, policy and room, one that cannot read all of
// /proc, and one for the host that the test runs on: some limits are those of
// the whole machine, and its first namespace has them. Nothing listens on the
// address of the last.
var exporters = map[string]string{
	"web":    "127.0.0.1:10065",
	"plain":  "127.0.0.1:10066",
	"broken": "127.0.0.1:10067",
	"host":   "127.0.0.1:10068",
	"down":   "127.0.0.1:10069",
	// Without privileges and with a policy.
	"guarded": "127.0.0.1:10070",
}

// withoutSamples are the rules that have nothing to say of the load, and why.
// Every panel shows something.
var withoutSamples = map[string]string{
	"PortExporterAbsent":          "there are exporters",
	"PortCollectorFailing":        "a file that cannot be read costs one figure, and no collector",
	"PortSocketsUnread":           "more sockets than are read would take minutes to open",
	"PortUnexpectedVsockListener": "the kernel of the tests may lack vsock_diag",
	"PortClosedConnectionsLost":   "the buffer has room for all of the load",
	"PortConfigTargetsFell":       losesNothing,
	"PortConfigRulesFell":         losesNothing,
	"PortServiceTimeWaitGrowing":  needsHistory,
	"PortServiceCloseWaitStuck":   needsHistory,
	"PortOutboundCloseWaitStuck":  needsHistory,
	"PortProbeNATChanged":         needsHistory,
	"PortProbeNATPortChanged":     needsHistory,
	"PortListenerNew":             needsHistory,
	"PortOrphansNearLimit":        wholeMachine,
	"PortTCPMemoryPressure":       wholeMachine,
	"PortTCPMemoryNearLimit":      wholeMachine,
	"PortTCPAbortOnMemory":        wholeMachine,
	"PortConntrackNearLimit":      wholeMachine,
	"PortConntrackDrops":          wholeMachine,
	"PortNeighbourTableFull":      "only the host's first network namespace has this counter",
	"PortReversePathFilterDrops":  "the load is on loopback, which the filter lets through",

	"listener:port_inbound_connections_time_wait:max1d": needsHistory,
}

const (
	losesNothing = "no exporter loses targets or rules"
	needsHistory = "compares with what was an hour ago or more"
	wholeMachine = "only the whole machine can reach its limit"
)

// TestMonitoringInNamespace runs every query of the rules and dashboards in a
// Prometheus that scrapes real exporters beside a real load. Each must be
// answered, and have samples unless withoutSamples says why not; each alert must
// have been pending.
func TestMonitoringInNamespace(t *testing.T) {
	dir := porttest.OpenDir(t)
	startMonitoring(t, dir, 1)
	began := time.Now() // building what is started may take a while

	open := slices.Concat(ruleChecks(t), panelChecks(t), relabelChecks())
	total := len(open)
	for second := 0; len(open) > 0 && time.Since(began) < 3*time.Minute; second++ {
		// With cookies and without.
		porttest.Sysctl(t, "net/ipv4/tcp_syncookies", strconv.Itoa(second/3%2))
		time.Sleep(time.Second)
		open = slices.DeleteFunc(open, func(c check) bool { return c.holds(t) })
	}
	for _, c := range open {
		t.Errorf("%s: no samples: %s", c.name, c.expr)
	}
	checkAnnotations(t)
	checkPreview(t, dir)
	t.Logf("%d queries, %d of them with samples, after %s", total, total-len(open), time.Since(began).Round(time.Second))
}

// TestQuietHostInNamespace lets the rules look at a host where nothing happens:
// none may have anything to say. A scrape that was late, or that a collector was
// late for, is none of the host's, so they are asked when the last ones were whole.
func TestQuietHostInNamespace(t *testing.T) {
	prometheus, dir := porttest.Program(t, "SKIP-PROMETHEUS", "prometheus"), porttest.OpenDir(t)
	output(t, "go", "build", "-o", dir, "../..")
	porttest.Namespace(t)
	address := exporters["web"]
	porttest.Start(t, exec.Command(filepath.Join(dir, "port_exporter"), "--web.listen-address="+address))
	awaitPage(t, address, "/metrics")
	startPrometheus(t, prometheus, dir, map[string]string{"quiet": address})
	whole := check{name: "scrapes", expr: `min(count_over_time(up[6s])) >= 5 and min(min_over_time(up[6s])) == 1
		and min(min_over_time(port_scrape_collector_success[6s])) == 1`}
	for range 90 {
		time.Sleep(time.Second)
		alerts := ask(t, check{name: "alerts", expr: `max_over_time(ALERTS[3s])`})
		if whole.holds(t) { // after the alerts, so that no later scrape is behind them
			if len(alerts) > 0 {
				t.Errorf("a quiet host has alerts: %v", alerts)
			}
			return
		}
	}
	t.Fatal("Prometheus does not scrape six times in a row")
}

// check is a query that must have samples at some time of the load.
type check struct {
	name, expr string
	legend     []string // labels that some of the samples must have
}

// holds runs the query. One that is not answered ends the test.
func (c check) holds(t *testing.T) bool {
	t.Helper()
	samples := ask(t, c)
	if len(samples) == 0 {
		return false
	}
	for _, l := range c.legend {
		if !slices.ContainsFunc(samples, func(s map[string]string) bool { return s[l] != "" }) {
			return false
		}
	}
	return true
}

// ask returns the labels of the samples of a query.
func ask(t *testing.T, c check) []map[string]string {
	t.Helper()
	_, body := porttest.Get(t, prometheusAddress, "/api/v1/query?query="+url.QueryEscape(c.expr))
	var answer struct {
		Status, Error string
		Warnings      []string
		Data          struct {
			ResultType string
			Result     []struct{ Metric map[string]string }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" || len(answer.Warnings) > 0 {
		t.Fatalf("%s: %v %s\n%s", c.name, err, body, c.expr)
	}
	var out []map[string]string
	for _, r := range answer.Data.Result {
		out = append(out, r.Metric)
	}
	return out
}

// checkAnnotations looks for those that Prometheus could not make.
func checkAnnotations(t *testing.T) {
	t.Helper()
	_, body := porttest.Get(t, prometheusAddress, "/api/v1/alerts")
	var answer struct {
		Data struct {
			Alerts []struct{ Labels, Annotations map[string]string }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Data.Alerts) == 0 {
		t.Fatalf("alerts: %v %s", err, body)
	}
	for _, a := range answer.Data.Alerts {
		for name, text := range a.Annotations {
			if text == "" || strings.Contains(text, "error expanding template") || strings.Contains(text, "no value") {
				t.Errorf("%s: the %s is %q", a.Labels["alertname"], name, text)
			}
		}
		t.Logf("%s %s: %s", a.Labels["alertname"], a.Annotations["summary"], a.Annotations["description"])
	}
}

const previewAddress = "127.0.0.1:3300"

func startPreview(t *testing.T, dir string) {
	t.Helper()
	porttest.Start(t, exec.Command(filepath.Join(dir, "preview"), "-prometheus=http://"+prometheusAddress, "-listen="+previewAddress,
		"-dashboards="+examples+"/dashboards", "-interval=1s"))
	awaitPage(t, previewAddress, "/")
}

// checkPreview looks for every panel in what is drawn without a Grafana.
func checkPreview(t *testing.T, dir string) {
	t.Helper()
	startPreview(t, dir)
	for _, d := range readDashboards(t) {
		_, page := porttest.Get(t, previewAddress, "/"+d.name+"?range=1m")
		if drawn, want := strings.Count(page, "<section "), len(d.panels()); drawn != want {
			t.Errorf("%s: %d panels are drawn, want %d", d.Title, drawn, want)
		}
		if empty := strings.Count(page, "No data"); empty > 0 {
			t.Errorf("%s: %d panels are empty", d.Title, empty)
		}
		for _, part := range []string{"<path style='stroke:", "<td>", "<b class="} {
			if !strings.Contains(page, part) {
				t.Errorf("%s: nothing that is drawn by %s", d.Title, part)
			}
		}
	}
}

// named are alerts that must say what the load did.
var named = []string{
	`PortListenOverflow", address="0.0.0.0", port="8443`,
	`PortEphemeralPortsHigh", remote_address="127.0.0.1", remote_port="6000`,
	`PortEphemeralPortsRunningOut", remote_address="127.0.0.1", remote_port="6000`,
	`PortEphemeralPortsHighUDP", instance="web`,
	`PortDestinationNotAnswering", remote_address="` + silentAddress + `", remote_port="5432`,
	`PortRemoteNotAnswering", remote_port="5432`,
	`PortSynAckRetransmitting", address="127.0.0.1", port="` + noWayBackPort,
	`PortInboundRetransmitting", address="127.0.0.1", port="` + lossyPort,
	`PortOutboundRetransmitting", remote_port="` + lossyPort,
	`PortOutboundZeroWindow", remote_port="7002`,
	`PortOutboundConnectsFailing", instance="web`,
	`PortInboundSegmentsRetransmitted", address="127.0.0.1", port="` + flakyPort,
	`PortOutboundSegmentsRetransmitted", instance="web", job="port_exporter", protocol="tcp", remote_port="` + flakyPort,
	`PortOutboundLimitedByReceiver", by="receiver", instance="web`,
	`PortServiceCloseWaitGrowing", address="127.0.0.1", port="9000`,
	`PortOutboundCloseWaitGrowing", remote_port="9001`,
	`PortUnexpectedPublicListener", port="4444", process="load`,
	`PortUnexpectedPrivateListener", port="4445", process="load`,
	`PortUnexpectedLoopbackListener", port="4446", process="load`,
	`PortRequiredListenerMissing", rule="ssh`,
	`PortForbiddenListener", port="4447", rule="no 4447", severity="info`,
	`PortListenersUnverified", instance="guarded`,
	`PortUnexpectedPacketSocket", instance="web", process="load`,
	`PortUnexpectedUnixListener", instance="web", process="load`,
	`PortUnixAcceptQueueFull", path="@pool`,
	`PortRequiredListenerUnverified", instance="broken`,
	`PortPolicyRuleEnds", rule="fair`,
	`PortAcceptQueueClamped", instance="web", port="8447`,
	`PortProbeQueueFull", target_name="full`,
	`PortProbeNotListening", target_name="closed", state="not_listening`,
	`PortProbeLocalFirewall", target_name="fenced`,
	`PortPolicyRuleStale", rule="ftp`,
	`PortListenerConflict", port="` + conflictPort,
	`PortProbeFiltered", module="silent_ping", target="` + silentAddress,
	`PortProbeSocket", target_name="socket", reason="unreachable`,
	`PortProbeCertificateExpired", target_name="expired`,
	`PortListenerCertificateExpires", address="127.0.0.1", port="8445`,
	`PortListenerCertificateExpired", address="127.0.0.1", port="8446`,
	`PortProbeRequestFailed", instance="` + notAllowed,
}

// ruleChecks has the expression of each rule, and the alert that it makes.
func ruleChecks(t *testing.T) []check {
	t.Helper()
	var out []check
	all := readRules(t)
	for name := range withoutSamples {
		if !slices.ContainsFunc(all, func(r rule) bool { return r.name == name }) {
			t.Errorf("withoutSamples has %s, which is no rule", name)
		}
	}
	for _, r := range all {
		c := check{name: r.name, expr: r.expr}
		if withoutSamples[r.name] != "" {
			ask(t, c)
			continue
		}
		out = append(out, c)
		if r.kind == "alert" {
			out = append(out, check{name: r.name + " pending", expr: fmt.Sprintf(`max_over_time(ALERTS{alertname=%q}[5m])`, r.name)})
		}
	}
	for _, matchers := range named {
		expr := `max_over_time(ALERTS{alertname="` + matchers + `"}[5m])`
		out = append(out, check{name: "alert", expr: expr})
	}
	return out
}

// panelChecks has every query of every panel, variable and annotation, with all hosts
// chosen.
func panelChecks(t *testing.T) []check {
	t.Helper()
	var out []check
	for _, d := range readDashboards(t) {
		for _, p := range d.panels() {
			for _, q := range p.Targets {
				c := check{name: d.Title + ": " + p.Title, expr: allChosen("15s").Replace(q.Expr), legend: legendLabels(q.LegendFormat)}
				out = append(out, c)
			}
		}
		for _, expr := range d.otherQueries() {
			out = append(out, check{name: d.Title, expr: allChosen("15s").Replace(expr)})
		}
	}
	return out
}

// relabelChecks are for what the relabelling of the documents makes of targets.
func relabelChecks() []check {
	return []check{
		{name: "/probe", expr: `probe_success{job="probes", instance="` + nginxAddress + `"} == 1`},
		{name: "/probe, not allowed", expr: `up{job="probes", instance="` + notAllowed + `"} == 0`},
		{name: "for old dashboards", expr: `probe_success{job="` + migrated + `", instance="127.0.0.1:9999", exporter="localhost:10065", target_name="closed"} == 0`},
		{name: "for old dashboards, not of probes", expr: `port_exporter_probes_in_flight{job="` + migrated + `", instance="localhost:10065", exporter=""}`},
	}
}

// migrated is the name of the job that [migrationJob] returns.
const migrated = "migrated"

// migrationJob returns the job of docs/migrating-from-blackbox_exporter.md, under
// another name and for the probes only, so that nothing else is exported twice.
func migrationJob(t *testing.T) string {
	t.Helper()
	_, block, ok := strings.Cut(porttest.ReadFile(t, "../../docs/migrating-from-blackbox_exporter.md"), "```yaml\nscrape_configs:\n  - job_name: port_exporter\n")
	if !ok {
		t.Fatal("the document has no job for old dashboards")
	}
	block, _, _ = strings.Cut(block, "```")
	return "  - job_name: " + migrated + "\n    params: {'collect[]': [probes]}\n" + block
}

// startMonitoring makes a namespace with the load, the exporters and a
// Prometheus that has our rules.
func startMonitoring(t *testing.T, dir string, slower float64) {
	t.Helper()
	prometheus := porttest.Program(t, "SKIP-PROMETHEUS", "prometheus")
	nft := porttest.Program(t, "SKIP-NFTABLES", "nft", "/usr/sbin/nft")
	output(t, "go", "build", "-o", dir, "../..", examples+"/dashboards/preview")
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "192.0.2.1/24", privateAddress+"/24")
	porttest.SilentNeighbour(t, "eth7", silentAddress)
	for name, value := range map[string]string{
		"net/ipv4/ip_local_port_range": ephemeralRange,
		"net/ipv4/tcp_tw_reuse":        "0", // else a port in TIME_WAIT is taken although others are free
		"net/ipv4/tcp_max_tw_buckets":  "1500",
		"net/core/somaxconn":           "16",
	} {
		porttest.Sysctl(t, name, value)
	}
	output(t, nft, `add table inet load; add chain inet load input { type filter hook input priority 0; };
		add rule inet load input tcp sport `+noWayBackPort+` tcp flags & (syn|ack) == (syn|ack) drop;
		add rule inet load input tcp dport `+lossyPort+` meta length > 500 drop;
		add rule inet load input tcp sport `+lossyPort+` meta length > 500 drop;
		add rule inet load input tcp dport `+flakyPort+` meta length > 500 numgen inc mod 3 0 drop;
		add rule inet load input tcp sport `+flakyPort+` meta length > 500 numgen inc mod 3 0 drop;
		add rule inet load input ct state established accept;
		add rule inet load input tcp dport { 9997, 9998 } reject with icmpx admin-prohibited;
		add rule inet load input ip daddr 127.0.0.9 tcp flags & (syn|ack) == syn numgen inc mod 2 0 drop`)
	porttest.Nginx(t, dir, "server { listen 0.0.0.0:8080; listen 0.0.0.0:"+conflictPort+" reuseport; listen unix:"+dir+"/nginx.sock; return 204; }\n")
	awaitPage(t, nginxAddress, "/")
	startLoad(t, dir, slower)
	startExporters(t, dir)
	startPrometheus(t, prometheus, dir, exporters, nginxAddress, notAllowed)
}

// notAllowed is a target that /probe refuses.
const notAllowed = "203.0.113.1:80"

// startLoad starts this program from another place, under another name, and
// removes it there, so that its listeners are those of a program that is gone.
func startLoad(t *testing.T, dir string, slower float64) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := write(t, dir, "load", string(self))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	// Its connections are those of a unit, and of a container in it.
	cgroup, err := os.Open(string(porttest.NewCgroup(t, "system.slice/load.service/docker-"+strings.Repeat("0123", 16)+".scope")))
	if err != nil {
		t.Fatal(err)
	}
	defer cgroup.Close()
	cmd := exec.Command(program)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%g", loadVariable, slower))
	porttest.Start(t, cmd)
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
}

func startExporters(t *testing.T, dir string) {
	t.Helper()
	program := filepath.Join(dir, "port_exporter")
	exporter := func(name string, args ...string) *exec.Cmd {
		return exec.Command(program, append(args, "--web.listen-address="+exporters[name])...)
	}
	ending := "    - {name: fair, ports: 8888, until: " + time.Now().UTC().Format(time.DateOnly) + "}\n"
	porttest.Start(t, exporter("web", "--collector.closed", "--collector.health", "--config.file="+write(t, dir, "web.yml", webConfig+ending+webTargets)))

	file := write(t, dir, "guarded.yml", "policy: {rules: [{name: web, process: nginx}]}\n")
	guarded := exporter("guarded", "--config.file="+file)
	guarded.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	porttest.Start(t, guarded)

	file = write(t, dir, "plain.yml", "limits: {outbound_ports: 1}\n")
	door := write(t, dir, "plain_web.yml", "basic_auth_users: {}\n")
	plain := exporter("plain", "--config.file="+file, "--web.config.file="+door)
	plain.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	porttest.Start(t, plain)

	if err := os.MkdirAll(filepath.Join(dir, "proc/sys/net/core"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "proc/sys/net/core/somaxconn", "many")
	file = write(t, dir, "broken.yml", "policy: {rules: [{name: web, ports: 8080, process: nginx, required: true}, {name: rest}]}\n")
	porttest.Start(t, exporter("broken", "--config.file="+file, "--path.procfs="+filepath.Join(dir, "proc")))
	startOutside(t, program)

	for name, address := range exporters {
		if name != "down" {
			awaitPage(t, address, "/metrics")
		}
	}
	write(t, dir, "plain.yml", "limits: {outbound_ports: none}\n")
	write(t, dir, "plain_web.yml", "basic_auth_users: {prometheus: plain}\n")
	if err := plain.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// webConfig expects nginx and some of the load, and reads the certificates of two. It names a server that is not
// there, a port that nobody uses, and a host that has no address.
const webConfig = `
listener_tls: {ports: [8445, 8446]}
destinations:
  watch:
    - address: nowhere.invalid
policy:
  rules:
    - {name: no 4447, ports: 4447, forbid: true, severity: info}
    - {name: no docker, protocol: unix, path: /run/docker.sock, forbid: true}
    - {name: web, process: nginx, required: true}
    - {name: ssh, ports: 22, required: true}
    - {name: ftp, ports: 21}
    - {name: load, process: load, ports: [3478, 5140, 6000-9200]}
    - {name: monitoring, scope: loopback, ports: [3300, 9090, 10065-10070]}
`

// webTargets are parts of the load, and something that is not there. They are
// probed in the background, since the scrapes are too short for the silent one.
const webTargets = `
probes:
  allow:
    rules:
      - {networks: 127.0.0.0/8}
modules:
  silent_ping: {prober: icmp, timeout: 1s}
  unverified: {prober: tcp, tcp: {tls: true, tls_config: {insecure_skip_verify: true}}}
  must_be_closed: {prober: tcp, expect_outcome: refused}
  greets: {prober: tcp, timeout: 1s, tcp: {query_response: [{expect: hello}]}}
  elsewhere: {prober: tcp, tcp: {source_ip_address: 192.0.2.77}}
  by_proxy: {prober: http, http: {proxy_url: "http://127.0.0.1:9999"}}
targets:
    - {name: rejected, address: "127.0.0.1:9998", interval: 2s}
    - {name: no route, address: "198.51.100.1:80", interval: 2s}
    - {name: no name, address: "nowhere.invalid:80", interval: 6s}
    - {name: mute, address: "127.0.0.1:8080", module: greets, interval: 2s}
    - {name: open, address: "127.0.0.1:8080", module: must_be_closed, interval: 2s}
    - {name: lossy, address: "127.0.0.9:8080", interval: 2s}
    - {name: web, address: "127.0.0.1:8080", interval: 2s}
    - {name: page, address: "http://localhost:8080/", interval: 2s}
    - {name: closed, address: "127.0.0.1:9999", interval: 2s}
    - {name: no source, address: "127.0.0.1:8080", module: elsewhere, interval: 2s}
    - {name: no proxy, address: "http://127.0.0.1:8080/", module: by_proxy, interval: 2s}
    - {name: closed to names, address: "127.0.0.1:9999", module: dns_tcp, interval: 2s}
    - {name: fenced, address: "127.0.0.1:9997", interval: 2s}
    - {name: silent, address: "` + silentAddress + `:5432", interval: 6s}
    - {name: ping, address: ` + silentAddress + `, module: silent_ping, interval: 2s}
    - {name: full, address: "127.0.0.1:8443", interval: 6s}
    - {name: tls, address: "127.0.0.1:8445", module: tls_connect, interval: 2s}
    - {name: expired, address: "127.0.0.1:8446", module: unverified, interval: 2s}
    - {name: socket, address: "/run/port_exporter_test/nowhere.sock", interval: 2s}
    - {name: sink, address: "127.0.0.1:5140", module: udp_ntp, interval: 6s}
    - {name: nat, address: "127.0.0.1:3478", module: stun, interval: 2s}
`

// startOutside starts an exporter that stays in the namespace of the host, with
// a socket of the test's: systemd's way of handing it over (sd_listen_fds(3)).
func startOutside(t *testing.T, program string) {
	t.Helper()
	fd, err := unix.Dup(porttest.Listen(t, exporters["host"], 16))
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(fd), "listener")
	defer socket.Close()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" --web.systemd-socket`, "sh", program)
	cmd.ExtraFiles = []*os.File{socket}
	done := make(chan struct{})
	go func() { // on another thread, which has not left
		defer close(done)
		porttest.Start(t, cmd)
	}()
	<-done
}

// startPrometheus starts a Prometheus with the example of a configuration, with
// shorter times and other targets. It has /probe asked for the probed ones, and
// for the job that docs/migrating-from-blackbox_exporter.md has for old
// dashboards.
func startPrometheus(t *testing.T, prometheus, dir string, exporters map[string]string, probed ...string) {
	t.Helper()
	pattern, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	var targets strings.Builder
	for _, name := range slices.Sorted(maps.Keys(exporters)) {
		fmt.Fprintf(&targets, "{targets: ['%s'], labels: {instance: %s}}, ", exporters[name], name)
	}
	text := porttest.ReadFile(t, examples+"/prometheus.yml")
	for _, change := range [][2]string{
		{"scrape_interval: 15s", "scrape_interval: 1s\n  scrape_timeout: 1s"},
		{"evaluation_interval: 1m", "evaluation_interval: 1s"},
		{"scrape_timeout: 10s", "scrape_timeout: 1s"},
		{"- rules/*.yml", "- " + pattern},
		{"&hosts\n      - targets: [\"localhost:10065\"]", "&hosts [" + targets.String() + "]"},
		{`"db.example.com:5432"`, strings.Join(probed, ", ")},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("%q is not once in prometheus.yml", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	config := write(t, dir, "prometheus.yml", text+migrationJob(t))
	porttest.Start(t, exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+prometheusAddress, "--log.level=warn"))
	awaitPage(t, prometheusAddress, "/-/ready")
}

// awaitPage asks until a server answers.
func awaitPage(t *testing.T, address, path string) {
	t.Helper()
	porttest.Await(t, address+path, func() bool {
		status, _, err := porttest.TryGet(address, path)
		return err == nil && status < 500
	})
}
