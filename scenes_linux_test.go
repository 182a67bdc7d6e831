package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
)

// inSpace is a source that reads one network namespace, whichever thread asks.
type inSpace struct {
	socket.Source
	space int // a descriptor of it
}

func (s inSpace) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		if err := unix.Setns(s.space, unix.CLONE_NEWNET); err != nil {
			yield(nil, err)
			return
		}
		for row, err := range s.Source.Sockets(ctx, want) {
			if !yield(row, err) {
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
}

func newStage(t *testing.T) *stage {
	t.Helper()
	porttest.Namespace(t)
	space, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(space) })
	source, err := sockdiag.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{now: time.Now(), system: &system.System{
		Source: inSpace{source, space}, Name: system.SockDiag, Protocols: socket.Protocols(), Owners: owner.New(owner.NewHost("/proc", "", quiet), quiet),
		EphemeralPorts: func() (socket.EphemeralPorts, error) {
			return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
		},
	}}
	s.memory = collector.NewMemory(func() time.Time { return s.now })
	return s
}

// scrape returns the families of a scrape of the daemon.
func (s *stage) scrape(t *testing.T, c *config.Config) map[string]*dto.MetricFamily {
	t.Helper()
	o := collector.Options{
		Source: s.system.Source, SourceName: s.system.Name, Protocols: s.system.Protocols, EphemeralPorts: s.system.EphemeralPorts,
		Owners: s.system.Owners, Limits: collector.Limits{Listeners: 100}, Memory: s.memory, Logger: slog.New(slog.DiscardHandler),
	}
	if c.HasPolicy {
		o.Policy = c.Policy
	}
	scrape, err := collector.New(o).Scrape(t.Context(), collector.Filter{Collectors: []string{"listeners", "policy"}})
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

// listens runs the command listeners, and baseline runs baseline.
func (s *stage) listens(t *testing.T, c *config.Config, wait time.Duration) (rows string, err error) {
	t.Helper()
	var out bytes.Buffer
	err = cli.Listeners(t.Context(), s.host(c, &out, wait), cli.ListenersOptions{Output: cli.JSON})
	return places(t, out.Bytes()), err
}

func (s *stage) baseline(t *testing.T) *config.Config {
	t.Helper()
	var out bytes.Buffer
	if err := cli.Baseline(t.Context(), s.host(parsed(t, ""), &out, time.Millisecond), cli.BaselineOptions{}); err != nil {
		t.Fatal(err)
	}
	return parsed(t, out.String())
}

func (s *stage) host(c *config.Config, out *bytes.Buffer, wait time.Duration) *cli.Host {
	return &cli.Host{System: s.system, Config: c, Stdout: out, Stderr: &bytes.Buffer{}, Wait: wait}
}

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// place is one listener as both tell of it; a client's has a question mark.
func place(protocol, address, port, process string, client bool) string {
	text := fmt.Sprintf("%s %s %s %s", protocol, address, port, process)
	if client {
		text += " ?"
	}
	return text
}

func places(t *testing.T, rows []byte) string {
	t.Helper()
	var read struct {
		Listeners []struct {
			Protocol, Address, Process string
			Port                       uint32
			Client                     bool `json:"may_be_client"`
		}
	}
	if err := json.Unmarshal(rows, &read); err != nil {
		t.Fatalf("%v: %s", err, rows)
	}
	var all []string
	for _, r := range read.Listeners {
		all = append(all, place(r.Protocol, r.Address, strconv.Itoa(int(r.Port)), r.Process, r.Client))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// scraped is places of port_listener_info.
func scraped(families map[string]*dto.MetricFamily) string {
	var all []string
	for _, m := range families["port_listener_info"].GetMetric() {
		l := labelsOf(m)
		all = append(all, place(l["protocol"], l["address"], l["port"], l["process"], l["protocol"] == "udp" && l["ephemeral"] == "true"))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
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
	fmt.Fprintf(&text, "    promql_expr_test:\n      - expr: count by (port) (ALERTS{alertname=~%q, alertstate=\"firing\"})\n        eval_time: 8m\n        exp_samples:\n", alert)
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

// TestScenesAgreeInNamespace plays scenes on a host, and holds the daemon, the
// commands, the policy that baseline writes and the alerts to the same notion of a
// listener in each.
func TestScenesAgreeInNamespace(t *testing.T) {
	for _, tt := range []struct {
		name     string
		play     func(t *testing.T)
		wildcard []string // ports of PortWildcardListener
		clients  int      // sockets that nobody can decide on
	}{
		{name: "nothing", play: func(*testing.T) {}},
		{name: "services", wildcard: []string{"53", "5432", "5060"}, play: func(t *testing.T) {
			porttest.Listen(t, "[::]:5432", 5)
			porttest.Listen(t, "127.0.0.1:22", 5)
			porttest.Listen(t, "0.0.0.0:80", 5) // on the list of the rules
			porttest.UDP(t, "0.0.0.0:53")
			porttest.UDP(t, "0.0.0.0:5060")
			porttest.UDP(t, "127.0.0.1:8125")
		}},
		{name: "UDP clients", clients: 3, play: func(t *testing.T) {
			porttest.UDP(t, "0.0.0.0:40000")
			sendTo(t, "127.0.0.1:9")
			sendTo(t, "[::1]:9")
		}},
		{name: "UDP with a peer", play: func(t *testing.T) {
			porttest.Connect(t, porttest.UDP(t, "127.0.0.1:5061"), "127.0.0.1:9")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			tt.play(t)
			without := parsed(t, "")
			s.scrape(t, without)
			s.now = s.now.Add(5 * time.Minute)
			daemon := s.scrape(t, without)
			rows, err := s.listens(t, without, time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(scraped(daemon), rows); diff != "" {
				t.Errorf("/metrics and listeners differ (-metrics +listeners):\n%s", diff)
			}
			if n := strings.Count(rows, "?"); n != tt.clients {
				t.Errorf("%d sockets may be clients, want %d:\n%s", n, tt.clients, rows)
			}
			firing(t, "listeners.yml", "PortWildcardListener", daemon, tt.wildcard)

			policy := s.baseline(t)
			judged := s.scrape(t, policy)
			if n := total(judged["port_policy_unexpected_listeners"]); n != 0 {
				t.Errorf("the daemon finds %v listeners unexpected that baseline expects", n)
			}
			if n := total(judged["port_policy_undecided_listeners"]); n != float64(tt.clients) {
				t.Errorf("the daemon cannot decide on %v, want %d", n, tt.clients)
			}
			for _, wait := range []time.Duration{0, time.Millisecond} {
				if _, err := s.listens(t, policy, wait); err != nil {
					t.Errorf("listeners --wait=%v: %v", wait, err)
				}
			}
			firing(t, "policy.yml", "PortUnexpected.*|PortRequiredListenerMissing", judged, nil)
		})
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
	first := ofResolver()
	s.scrape(t, without)
	rows, err := s.listens(t, without, 0)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(rows) {
		if strings.Contains(line, "unbound") && !strings.Contains(line, "?") {
			t.Errorf("the command calls a query a listener: %s", line)
		}
	}

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
	want := strings.Join([]string{"udp 127.0.0.1 5335 unbound", "udp 127.0.0.53 53 " + ownName(t)}, "\n")
	got := slices.DeleteFunc(strings.Split(scraped(daemon), "\n"), func(line string) bool { return strings.HasSuffix(line, "?") }) // our client
	if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	firing(t, "listeners.yml", "PortWildcardListener", daemon, nil)
	policy := s.baseline(t)
	if n := total(s.scrape(t, policy)["port_policy_unexpected_listeners"]); n != 0 {
		t.Errorf("%v unexpected listeners", n)
	}
	if _, err := s.listens(t, policy, 0); err != nil {
		t.Errorf("listeners: %v", err)
	}
}
