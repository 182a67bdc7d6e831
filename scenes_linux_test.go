package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/cli"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
)

// within runs f in a network namespace, on a thread that ends with it.
func within(space int, f func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := unix.Setns(space, unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

// inSpace is a source that reads one network namespace, whichever thread asks.
type inSpace struct {
	socket.Source
	space int // a descriptor of it
}

func (s inSpace) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		type row struct {
			socket.Socket
			err error
		}
		var rows []row
		err := within(s.space, func() {
			for one, err := range s.Source.Sockets(ctx, want) {
				if err != nil {
					one = &socket.Socket{}
				}
				rows = append(rows, row{*one, err})
			}
		})
		if err != nil {
			yield(nil, err)
			return
		}
		for i := range rows {
			if !yield(&rows[i].Socket, rows[i].err) {
				return
			}
		}
	}
}

// quiet is a log that keeps nothing.
var quiet = slog.New(slog.DiscardHandler)

// stage is a host in which a scene plays: what the daemon and the commands read.
type stage struct {
	system *system.System
	memory *collector.Memory
	now    time.Time // of the daemon
	limit  int       // of listeners that have series
	// Of a scene with a process that hangs: a /proc here and as others see it, and its pid.
	procfs, outside string
	hung            int
}

func newStage(t *testing.T) *stage {
	t.Helper()
	porttest.Namespace(t)
	space, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(space) })
	host, err := system.Open(t.Context(), system.SockDiag, "/proc/thread-self", "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{now: time.Now(), limit: 100, system: host}
	s.useProcfs("/proc")
	host.Source = inSpace{host.Source, space}
	host.EphemeralPorts = func() (socket.EphemeralPorts, error) {
		return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
	}
	portless, kinds := host.Portless, host.AddressKinds
	host.Portless = func(ctx context.Context) (table socket.PortlessTable, err error) {
		failed := within(space, func() { table, err = portless(ctx) })
		return table, errors.Join(failed, err)
	}
	host.AddressKinds = func(addresses []netip.Addr) (found map[netip.Addr]socket.AddressKind) {
		_ = within(space, func() { found = kinds(addresses) }) // else they are unknown
		return found
	}
	s.memory = collector.NewMemory(func() time.Time { return s.now })
	return s
}

// useProcfs has the owners looked for anew.
func (s *stage) useProcfs(procfs string) {
	s.system.Owners = owner.New(owner.NewProcesses(procfs, "", quiet), quiet)
	s.system.PortlessOwners = owner.New(owner.NewProcesses(procfs, "", quiet), quiet)
}

// scrape returns the families of a scrape of the daemon.
func (s *stage) scrape(t *testing.T, c *config.Config) map[string]*dto.MetricFamily {
	t.Helper()
	o := collector.Options{
		Source: s.system.Source, SourceName: s.system.Name, Protocols: s.system.Protocols, EphemeralPorts: s.system.EphemeralPorts,
		Owners: s.system.Owners, Portless: s.system.Portless, PortlessOwners: s.system.PortlessOwners, AddressKinds: s.system.AddressKinds,
		Limits: collector.Limits{Listeners: s.limit}, Memory: s.memory, Logger: quiet,
	}
	if c.HasPolicy {
		o.Policy = c.Policy
	}
	scrape, err := collector.New(o).Scrape(t.Context(), collector.Filter{Collectors: []string{"listeners", "policy", "portless"}})
	if err != nil {
		t.Fatal(err)
	}
	families, err := scrape.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// listens runs the command listeners.
func (s *stage) listens(t *testing.T, c *config.Config, wait time.Duration) (rows []listed, err error) {
	t.Helper()
	var out bytes.Buffer
	err = cli.Listeners(t.Context(), s.host(c, &out, wait), cli.ListenersOptions{Output: "json"})
	return listedIn(t, out.String()), err
}

// baseline runs the command baseline.
func (s *stage) baseline(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	if err := cli.Baseline(t.Context(), s.host(parsed(t, ""), &out, time.Millisecond), cli.BaselineOptions{}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func (s *stage) host(c *config.Config, out *bytes.Buffer, wait time.Duration) *cli.Command {
	return &cli.Command{System: s.system, Config: c, Stdout: out, Stderr: &bytes.Buffer{}, Wait: wait}
}

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// listed is a row of the command listeners.
type listed struct {
	Protocol, Address, Interface, Scope     string
	Process, User, Unit, Container, Verdict string
	Port                                    uint32
	DualStack                               bool   `json:"dual_stack"`
	MayBeClient                             bool   `json:"may_be_client"`
	Absent                                  bool   `json:"address_absent"`
	Full                                    uint64 `json:"accept_queue_full_sockets"`
	Sockets                                 int
}

func listedIn(t *testing.T, table string) []listed {
	t.Helper()
	var read struct{ Listeners []listed }
	if err := json.Unmarshal([]byte(table), &read); err != nil {
		t.Fatalf("%v: %s", err, table)
	}
	return read.Listeners
}

// place is one listener as the daemon and the commands both export it; a client's has
// a question mark.
func place(l map[string]string, full uint64, absent, client bool) string {
	text := strings.Join([]string{l["protocol"], l["address"], l["port"], l["interface"], l["scope"], l["dual_stack"],
		l["process"], l["user"], l["unit"], l["container"]}, " ")
	if full > 0 {
		text += fmt.Sprint(" full=", full)
	}
	if absent {
		text += " absent"
	}
	if client {
		text += " ?"
	}
	return text
}

// places are the rows that have a port.
func places(rows []listed) (all []string) {
	for _, r := range rows {
		if isPortless(r) {
			continue
		}
		all = append(all, place(map[string]string{
			"protocol": r.Protocol, "address": r.Address, "port": strconv.Itoa(int(r.Port)), "interface": r.Interface, "scope": r.Scope,
			"dual_stack": strconv.FormatBool(r.DualStack), "process": r.Process, "user": r.User, "unit": r.Unit, "container": r.Container,
		}, r.Full, r.Absent, r.MayBeClient))
	}
	slices.Sort(all)
	return all
}

func isPortless(r listed) bool {
	return r.Protocol == "raw" || r.Protocol == "packet" || r.Protocol == "vsock"
}

// scraped is places of port_listener_info.
func scraped(families map[string]*dto.MetricFamily) (all []string) {
	of := func(family string, l map[string]string) float64 {
		for _, m := range families[family].GetMetric() {
			other := labelsOf(m)
			if other["protocol"] == l["protocol"] && other["address"] == l["address"] && other["port"] == l["port"] && other["interface"] == l["interface"] {
				return m.GetGauge().GetValue()
			}
		}
		return 0
	}
	for _, m := range families["port_listener_info"].GetMetric() {
		l := labelsOf(m)
		client := l["protocol"] == "udp" && l["ephemeral"] == "true"
		full, absent := of("port_listener_accept_queue_full_sockets", l), of("port_listener_address_absent", l)
		all = append(all, place(l, uint64(full), absent == 1, client))
	}
	slices.Sort(all)
	return all
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

func total(f *dto.MetricFamily) float64 {
	sum := 0.0
	for _, m := range f.GetMetric() {
		sum += m.GetGauge().GetValue()
	}
	return sum
}

// firing evaluates the example rules on the samples of a scrape, and wants alerts
// of a name on just these ports.
func firing(t *testing.T, rules, alert string, families map[string]*dto.MetricFamily, ports []string) {
	t.Helper()
	dir, err := filepath.Abs("examples/rules")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "rule_files: [%s]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n", filepath.Join(dir, rules))
	for name, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for key, value := range labelsOf(m) {
				labels = append(labels, fmt.Sprintf("%s=%q", key, value))
			}
			fmt.Fprintf(&text, "      - {series: '%s{job=\"j\",instance=\"i\",%s}', values: '%vx10'}\n", name, strings.Join(labels, ","), m.GetGauge().GetValue())
		}
	}
	fmt.Fprintf(&text, "    promql_expr_test:\n      - expr: group by (port) (ALERTS{alertname=~%q, alertstate=\"firing\"})\n        eval_time: 8m\n        exp_samples:\n", alert)
	for _, port := range ports {
		fmt.Fprintf(&text, "          - {labels: '{port=%q}', value: 1}\n", port)
	}
	if len(ports) == 0 {
		text.WriteString("          []\n")
	}
	file := filepath.Join(t.TempDir(), "test.yml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), porttest.PromtoolPath(t), "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("alert %s: %v\n%s", alert, err, out)
	}
}

// sendTo makes a UDP client that is never bound and never connected.
func sendTo(t *testing.T, remote string) {
	t.Helper()
	to := netip.MustParseAddrPort(remote)
	family, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port()), Addr: [4]byte{127, 0, 0, 1}})
	if to.Addr().Is6() {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Sendto(fd, []byte("x"), 0, address); err != nil {
		t.Fatal(err)
	}
}

// TestScenesAgreeInNamespace plays scenes on a host, and compares the daemon, the
// commands, the policy that baseline writes and the alerts: they have the same notion
// of a listener in each. Without privileges nothing is verified, nor accused.
func TestScenesAgreeInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	for _, tt := range scenes() {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			if tt.limit > 0 {
				s.limit = tt.limit
			}
			tt.play(t, s)
			rows := checkSame(t, s, &tt)
			policy := s.baseline(t)
			if tt.then != nil {
				tt.then(t, s)
			}
			checkExpected(t, s, &tt, parsed(t, policy))
			if tt.then == nil && len(rows) > 0 {
				checkUnprivileged(t, policy, rows)
			}
		})
	}
}

// checkSame compares what listeners and /metrics export, before there is a policy.
func checkSame(t *testing.T, s *stage, tt *scene) []listed {
	t.Helper()
	without := parsed(t, "")
	s.scrape(t, without)
	s.now = s.now.Add(5 * time.Minute)
	daemon := s.scrape(t, without)
	rows, err := s.listens(t, without, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	command := places(rows)
	exported := scraped(daemon)
	if tt.limit > 0 {
		if len(exported) != tt.limit {
			t.Errorf("%d of %d listeners have series, want %d", len(exported), len(command), tt.limit)
		}
		command = slices.DeleteFunc(command, func(p string) bool { return !slices.Contains(exported, p) })
	}
	if diff := cmp.Diff(exported, command); diff != "" {
		t.Errorf("/metrics and listeners differ (-metrics +listeners):\n%s", diff)
	}
	for protocol, family := range map[string]string{"raw": "port_raw_sockets", "packet": "port_packet_sockets"} {
		sockets := 0
		for _, r := range rows {
			if r.Protocol == protocol {
				sockets += r.Sockets
			}
		}
		if n := total(daemon[family]); n != float64(sockets) {
			t.Errorf("%s is %v, and listeners has %d", family, n, sockets)
		}
	}
	for _, want := range tt.lists {
		if !slices.ContainsFunc(command, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("%q is not among:\n%s", want, strings.Join(command, "\n"))
		}
	}
	if n := strings.Count(strings.Join(command, "\n"), "?"); n != tt.clients {
		t.Errorf("%d sockets may be clients, want %d:\n%s", n, tt.clients, strings.Join(command, "\n"))
	}
	firing(t, "listeners.yml", "PortWildcardListener", daemon, tt.wildcard)
	return rows
}

// checkExpected judges the scene by the policy that baseline wrote.
func checkExpected(t *testing.T, s *stage, tt *scene, policy *config.Config) {
	t.Helper()
	daemon := s.scrape(t, policy)
	for family, want := range map[string]int{
		"port_policy_unexpected_listeners": 0, "port_policy_unexpected_portless_socket": 0, "port_policy_missing_listener": 0,
		"port_policy_undecided_listeners": tt.clients, "port_policy_unverified_listeners": tt.unverified,
	} {
		if n := total(daemon[family]); n != float64(want) {
			t.Errorf("%s is %v, want %d", family, n, want)
		}
	}
	status := 0
	if tt.unverified > 0 {
		status = 3
	}
	for _, wait := range []time.Duration{0, time.Millisecond} {
		rows, err := s.listens(t, policy, wait)
		if got := statusOf(err); got != status {
			t.Errorf("listeners --wait=%v: status %d, want %d: %v", wait, got, status, err)
		}
		if n := len(slices.DeleteFunc(rows, func(r listed) bool { return r.Verdict != "unverified" })); n != tt.unverified {
			t.Errorf("listeners --wait=%v: %d unverified, want %d", wait, n, tt.unverified)
		}
	}
	firing(t, "policy.yml", "PortUnexpected.*|PortRequiredListenerMissing", daemon, nil)
}

// statusOf returns the exit status of a command.
func statusOf(err error) int {
	if exit, ok := errors.AsType[*cli.ExitError](err); ok {
		return exit.Code
	}
	return 0
}

// checkUnprivileged runs the program as nobody with the policy: neither the command nor
// the daemon excuses or accuses any listener, but for what may be a client.
func checkUnprivileged(t *testing.T, policy string, rows []listed) {
	t.Helper()
	file := filepath.Join(porttest.OpenDir(t), "policy.yml")
	writeOpen(t, file, strings.Replace(policy, "rules: []", "rules:", 1)+"    - {name: exporter, ports: 10065}\n")
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, said, status := porttest.EndedAs(t, nobody, "port_exporter", "--config.file="+file, "listeners", "--output=json")
	if status == 2 {
		t.Fatalf("unprivileged: %s\n%s", said, policy)
	}
	judged := listedIn(t, out)
	verdicts := map[string]int{}
	nameless := map[string]bool{} // a rule for these can only go by the port
	for _, r := range rows {
		nameless[fmt.Sprint(r.Protocol, r.Address, r.Port)] = r.Process == ""
	}
	for _, r := range judged {
		if r.Verdict != "unverified" && !r.MayBeClient && !nameless[fmt.Sprint(r.Protocol, r.Address, r.Port)] {
			t.Errorf("unprivileged: the verdict is %q on %+v", r.Verdict, r)
		}
		verdicts[r.Verdict]++
	}
	if want := 3 * min(1, verdicts["unverified"]); status != want || len(judged) != len(rows) {
		t.Errorf("unprivileged: status %d, want %d; %d listeners, want %d; said %s\n%s", status, want, len(judged), len(rows), said, policy)
	}
	stop := porttest.StartDaemonAs(t, nobody, "port_exporter", "--config.file="+file)
	defer stop()
	got := porttest.Scrape(t, "port_policy_")
	sum := func(family string) (n float64) {
		for series, value := range got {
			if strings.HasPrefix(series, family+"{") {
				n += value
			}
		}
		return n
	}
	if n := sum("port_policy_unverified_listeners"); n != float64(verdicts["unverified"]) {
		t.Errorf("unprivileged: the daemon cannot verify %v, want %d: %v", n, verdicts["unverified"], porttest.NonZero(got))
	}
	for _, family := range []string{"port_policy_unexpected_listeners", "port_policy_unexpected_portless_socket", "port_policy_missing_listener"} {
		if n := sum(family); n != 0 {
			t.Errorf("unprivileged: %s is %v", family, n)
		}
	}
}

// TestResolverInNamespace has a resolver that takes a source port of its own choice
// for each query, unconnected, of servers that do not answer.
func TestResolverInNamespace(t *testing.T) {
	if _, err := exec.LookPath("unbound"); err != nil {
		t.Skip("SKIP-UNBOUND: unbound is not in PATH")
	}
	s := newStage(t)
	porttest.UDP(t, "127.0.0.53:53") // reads nothing
	conf := filepath.Join(t.TempDir(), "unbound.conf")
	if err := os.WriteFile(conf, []byte(`server:
  interface: 127.0.0.1
  port: 5335
  do-daemonize: no
  do-tcp: no
  do-not-query-localhost: no
  udp-connect: no
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  outgoing-port-avoid: 32768-60999
  access-control: 127.0.0.0/8 allow
forward-zone:
  name: "."
  forward-addr: 127.0.0.53
remote-control:
  control-enable: no
`), 0o600); err != nil {
		t.Fatal(err)
	}
	porttest.Start(t, exec.Command("unbound", "-d", "-p", "-c", conf))
	client := porttest.UDP(t, "127.0.0.1:0")
	ask := func(n int) {
		query := []byte{0, byte(n), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 'n', byte('a' + n/26%26), byte('a' + n%26), 4, 'c', 'o', 'r', 'p', 0, 0, 1, 0, 1}
		_ = unix.Sendto(client, query, 0, &unix.SockaddrInet4{Port: 5335, Addr: [4]byte{127, 0, 0, 1}})
	}
	without := parsed(t, "")
	ofResolver := func() (sockets map[uint64]bool) {
		sockets = map[uint64]bool{}
		for row, err := range s.system.Source.Sockets(t.Context(), socket.Listening) {
			if err == nil && row.State == socket.Unconnected && row.Local.Addr().IsUnspecified() {
				sockets[row.Cookie] = true
			}
		}
		return sockets
	}
	asked := 0
	porttest.Await(t, "queries in flight", func() bool {
		ask(asked)
		asked++
		return len(ofResolver()) >= 4
	})
	s.scrape(t, without)
	rows, err := s.listens(t, without, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Process == "unbound" && !r.MayBeClient {
			t.Errorf("the command calls a query a listener: %+v", r)
		}
	}

	first := ofResolver() // all that the scrape and the command can have seen, and that have not ended
	porttest.Await(t, "the end of the first queries", func() bool {
		ask(asked)
		asked++
		now := ofResolver()
		for id := range first {
			if now[id] {
				return false
			}
		}
		return len(now) > 0
	})
	s.now = s.now.Add(5 * time.Minute)
	daemon := s.scrape(t, without)
	want := []string{"udp 127.0.0.1 5335  loopback false unbound root  ", "udp 127.0.0.53 53  loopback false " + porttest.OwnName(t) + " root  "}
	got := slices.DeleteFunc(scraped(daemon), func(line string) bool { return strings.HasSuffix(line, "?") }) // our client
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	firing(t, "listeners.yml", "PortWildcardListener", daemon, nil)
	policy := parsed(t, s.baseline(t))
	if n := total(s.scrape(t, policy)["port_policy_unexpected_listeners"]); n != 0 {
		t.Errorf("%v unexpected listeners", n)
	}
	if _, err := s.listens(t, policy, 0); err != nil {
		t.Errorf("listeners: %v", err)
	}
}
