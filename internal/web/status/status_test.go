package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/trace"
)

var now = time.Unix(1_800_000_000, 0)

// host is a host to look at: what the exporter reads, and the options of its pages.
type host struct {
	collector.Options
	pages Options
}

// owners has the owners of listeners by port; others are unknown.
type owners map[uint16]socket.Owner

func (o owners) Owners(_ context.Context, listeners []socket.Listener) owner.Result {
	var r owner.Result
	for _, l := range listeners {
		who, known := o[l.Port]
		if !known {
			r.Unattributed++
			r.Missing = []string{owner.CapSysPtrace, owner.CapDacReadSearch}
		}
		r.Owned = append(r.Owned, socket.Owned{Listener: l, Owner: who})
	}
	return r
}

func queued(length, limit uint32) func(*socket.Socket) {
	return func(s *socket.Socket) { s.AcceptQueue, s.AcceptQueueLimit = length, limit }
}

func ports(n uint16) []socket.PortRange { return []socket.PortRange{{First: n, Last: n}} }

// busyHost has a listener that nothing expects, a full queue, one that is expected, and
// connections in all states.
func busyHost() *host {
	in := func(state socket.State, n int) []socket.Socket {
		return porttest.Times(n, porttest.Socket(socket.TCP, state, "10.0.0.1:443", "10.0.0.9:50000"))
	}
	h := &host{Options: collector.Options{
		Source: porttest.Sockets(slices.Concat([]socket.Socket{
			porttest.Socket(socket.TCP, socket.Listen, "0.0.0.0:443", "", queued(3, 511)),
			porttest.Socket(socket.TCP, socket.Listen, "127.0.0.1:9000", "", queued(3, 2)),
			porttest.Socket(socket.TCP, socket.Listen, "127.0.0.1:22", "", queued(0, 128)),
			porttest.Socket(socket.TCP, socket.Listen, "127.0.0.1:4444", ""),
			porttest.Socket(socket.TCP, socket.Listen, "0.0.0.0:40000", ""),
			porttest.Socket(socket.UDP, socket.Unconnected, "0.0.0.0:123", ""),
			porttest.Socket(socket.TCP, socket.SynSent, "10.0.0.1:50001", "192.0.2.9:5672", func(s *socket.Socket) { s.Retransmits = 2 }),
			porttest.Socket(socket.TCP, socket.TimeWait, "10.0.0.1:8080", "10.0.0.9:50000"),
		}, in(socket.Established, 1200), in(socket.CloseWait, 7), in(socket.TimeWait, 9))),
		SourceName: "sock_diag",
		Protocols:  socket.Protocols(),
		EphemeralPorts: func() (socket.EphemeralPorts, error) {
			return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
		},
		Owners: owners{
			443: {Process: "nginx", User: "www-data", Unit: "nginx.service", PID: 77, Executable: "/usr/sbin/nginx"},
			22:  {Process: "sshd", User: "root"}, 9000: {Process: "gunicorn", Container: "docker-0123456789ab"},
			40000: {Process: "python3", User: "eve", Deleted: true}, 123: {Process: "chronyd"}, 4444: {Process: "nc"},
		},
		KernelStats: func() (*kernel.Stats, error) {
			return &kernel.Stats{TimeWait: new(900.0), TimeWaitLimit: new(1000.0), Orphans: new(5.0), OrphanLimit: new(5.0), Conntrack: new(1.0), ConntrackLimit: new(4.0)}, nil
		},
		Policy: []policy.Rule{
			{Name: "web", Ports: ports(443)}, {Name: "ssh", Ports: ports(22)}, {Name: "app", Ports: ports(9000)}, {Name: "time", Ports: ports(123)},
			{Name: "no backdoor", Ports: ports(4444), Forbid: true}, {Name: "mail", Comment: "to the world", Ports: ports(25), Required: true},
		},
		Limits: collector.Limits{Listeners: 100, OutboundPorts: 2, OrphanedPorts: 2, Destinations: 2},
		Memory: collector.NewMemory(func() time.Time { return now }),
		Logger: slog.New(slog.DiscardHandler),
	}}
	h.pages = Options{
		Targets:   func() []schedule.Past { return nil },
		History:   func() []schedule.Entry { return nil },
		Path:      func(*probe.Target, *probe.Result) (probe.Path, time.Time) { return nil, time.Time{} },
		Addresses: func() (map[netip.Addr]string, error) { return map[netip.Addr]string{}, nil },
		MayDebug:  func(r *http.Request) bool { return strings.HasPrefix(r.RemoteAddr, "127.") },
		Hostname:  "web-1", Version: "1.2.3", Started: now.Add(-3 * time.Hour), LinkPrefix: "/", MetricsPath: "/metrics",
		Now: func() time.Time { return now.Add(time.Minute) },
	}
	return h
}

// from is where a request comes from.
const (
	here  = "127.0.0.1:1"
	there = "192.0.2.7:1"
)

func (h *host) server() *Server {
	o := h.pages
	if o.View == nil {
		o.View = collector.New(h.Options).View
	}
	return New(o)
}

func (h *host) get(t *testing.T, from, path string) (int, string) {
	t.Helper()
	s := h.server()
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.Page)
	mux.HandleFunc("/listener", s.Listener)
	mux.HandleFunc("/target", s.Target)
	mux.HandleFunc("/check", s.Check)
	mux.HandleFunc("/static/{file}", s.Asset)
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Security-Policy"); w.Code == 200 && !strings.HasPrefix(got, "default-src 'none'; style-src 'self'; img-src 'self';") {
		t.Errorf("%s: policy %q", path, got)
	}
	return w.Code, w.Body.String()
}

// page returns a page that must be there, and its text without tags.
func (h *host) page(t *testing.T, from, path string) (body, text string) {
	t.Helper()
	status, body := h.get(t, from, path)
	if status != 200 {
		t.Fatalf("%s: %d %s", path, status, body)
	}
	return body, textOf(body)
}

func textOf(body string) string {
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")
	return strings.Join(strings.Fields(text), " ")
}

// inOrder checks that texts are in a text one after the other.
func inOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, behind, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("%q is not behind those before it in\n%s", part, text)
			continue
		}
		rest = behind
	}
}

// targets are one of each state; the first has a password in its address.
func targets() []schedule.Past {
	tcp := &probe.Module{Name: "tcp_connect", Kind: probe.KindTCP}
	web := &probe.Module{Name: "http_2xx", Kind: probe.KindHTTP}
	past := func(t probe.Target, state schedule.State, r probe.Result, runs ...schedule.State) schedule.Past {
		p := schedule.Past{Report: schedule.Report{Target: &t, Result: r, At: now, Tally: &schedule.Tally{}}, State: state, Since: now.Add(-time.Hour)}
		for i, s := range runs {
			p.Runs = append(p.Runs, schedule.Run{At: now.Add(time.Duration(i-len(runs)) * time.Minute), Outcome: r.Outcome, State: s})
		}
		p.Tally.Add(r.Outcome)
		return p
	}
	return []schedule.Past{
		past(probe.Target{Name: "good", Address: "10.0.0.5:80", Module: tcp}, schedule.Passing, probe.Result{Duration: 2 * time.Millisecond}, schedule.Failing, schedule.Passing),
		past(probe.Target{Name: "new", Address: "10.0.0.6:80", Module: tcp}, schedule.Unknown, probe.Result{}),
		past(probe.Target{Name: "short of files", Address: "10.0.0.7:80", Module: tcp}, schedule.Untried, probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal}, schedule.Untried),
		past(probe.Target{Name: "secret", Address: "http://me:s3cret@10.0.0.8/", Module: web, Interval: time.Minute, Labels: []probe.Label{{Name: "team", Value: "x"}}}, schedule.Failing,
			probe.Result{Outcome: probe.Refused, Phase: probe.PhaseConnect, Origin: probe.OriginTarget, Peer: netip.MustParseAddrPort("10.0.0.8:80"), Err: errors.New("dial http://me:s3cret@10.0.0.8/: refused")}, schedule.Failing),
	}
}

func TestOrderOfThePage(t *testing.T) {
	h := busyHost()
	h.pages.Targets = targets
	body, text := h.page(t, there, "/")
	inOrder(t, text, "✗ web-1 – port_exporter", "web-1", "watched since 2027-01-15 05:00:00 UTC (3 h)",
		"✗ 2 of 6 listeners are unexpected", "✗ 1 of them is forbidden", "✗ 1 required is missing", "✗ 1 queue is full",
		"✗ 1 of 4 targets fails", "! 1 target could not be tried", "? 1 target not probed yet", "✗ 1 limit is reached", "! 1 limit is near",
		"missing: no listener for the required rule mail (to the world)",
		"tcp 0.0.0.0:40000", "its executable was deleted", "every address", "python3", "user eve", "✗ unexpected",
		"tcp 127.0.0.1:4444", "this host only", "✗ forbidden", "rule no backdoor",
		"tcp 127.0.0.1:9000", "accept queue is full", "docker-0123456789ab", "3/2",
		"tcp 0.0.0.0:443", "nginx", "nginx.service", "user www-data", "✓ expected", "rule web", "3/511", "established 1,200", "close_wait 7", "60 s ago 2027-01-15 08:00:00 UTC",
		"udp 0.0.0.0:123", "tcp 127.0.0.1:22",
		"Targets", "secret", "http://me:xxxxx@10.0.0.8/", "✗ fails", "refuses", "61 min ago", "✗ refused",
		"short of files", "! not tried", "new", "? not probed yet", "Each scrape of the metrics probes it", "good", "✓ passes", "10.0.0.5:80 is open.", "✗ open ✓ open", "2.0 ms",
		"CLOSE_WAIT", "to the listener 0.0.0.0:443", "7", "nginx", "TIME_WAIT", "9", "SYN_SENT", "remote port 5672", "unanswered", "to 192.0.2.9:5672", "orphaned", "local port 8080",
		"Limits", "Orphaned sockets", "5 of 5", "✗ reached", "Sockets in TIME_WAIT", "900 of 1,000", "! near", "Connections tracked", "✓ far",
		"What cannot be seen", "Nothing is hidden", "Links", "Metrics", "Configuration")
	if strings.Contains(body, "s3cret") {
		t.Error("a password is on the page")
	}
	if n := strings.Count(body, `class="attention"`); n != 6 {
		t.Errorf("%d rows need attention", n)
	}
}

// TestHealthyHost has nothing that needs attention.
func TestHealthyHost(t *testing.T) {
	h := busyHost()
	h.Source = porttest.Sockets{porttest.Socket(socket.TCP, socket.Listen, "127.0.0.1:22", "")}
	h.Policy = h.Policy[:4]
	h.KernelStats = func() (*kernel.Stats, error) { return &kernel.Stats{}, nil }
	h.pages.Targets = func() []schedule.Past { return targets()[:1] }
	body, text := h.page(t, there, "/")
	if !strings.HasPrefix(text, "web-1 – port_exporter") {
		t.Errorf("the title says that something is wrong: %s", text[:30])
	}
	inOrder(t, text, "✓ 1 listener, all expected", "✓ 1 target, all pass", "No socket is in CLOSE_WAIT")
	for _, tone := range []string{"bad", "warn"} {
		if strings.Contains(body, `<li class="`+tone) {
			t.Errorf("something is %s:\n%s", tone, text)
		}
	}
}

func TestHosts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*host)
		want   []string // in the text, in this order
		not    string
	}{
		{"empty", func(h *host) { h.Source, h.Policy = porttest.Sockets{}, nil },
			[]string{"0 listeners, and no policy says which are expected", "Nothing listens on this host.", "No targets are configured.", "No socket is in CLOSE_WAIT"}, "/listener?"},
		{"no policy", func(h *host) { h.Policy = nil },
			[]string{"– 6 listeners, and no policy says which are expected", "1 queue is full", "port_exporter baseline &gt; policy.yml", "tcp 127.0.0.1:9000", "tcp 0.0.0.0:40000", "deleted", "tcp 0.0.0.0:443"}, "Verdict"},
		{"unprivileged", func(h *host) { h.Owners = owners{} },
			[]string{"The process of 6 listeners is unknown.", "Run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH."}, "Nothing is hidden"},
		{"rules about owners, unprivileged", func(h *host) { h.Owners, h.Policy[5].Processes, h.Policy[5].Ports = owners{}, []string{"smtpd"}, nil },
			[]string{"1 of 6 listeners is unexpected", "! 1 cannot be verified", "! 1 required may be missing", "unverified: whether the required rule mail"}, ""},
		{"/proc", func(h *host) { h.SourceName = "procfs" }, []string{"The source of the sockets is procfs"}, ""},
		{"a file", func(h *host) {
			h.KernelStats = func() (*kernel.Stats, error) {
				return &kernel.Stats{}, &kernel.FileError{File: "net/snmp", Err: fs.ErrPermission}
			}
		}, []string{"Limits of the kernel could not be read", "The file net/snmp below /proc could not be read: permission denied."}, ""},
		{"listeners cannot be read", func(h *host) { h.Source = broken{} },
			[]string{"? the listeners are unknown", "The listeners could not be read: netlink is tired.", "The connections could not be read: netlink is tired."}, "CLOSE_WAIT"},
		{"disabled", func(h *host) { h.Disabled = []string{"connections", "sockets", "ephemeral"} },
			[]string{"The connections are not shown: the collector connections is disabled."}, "established"},
		{"packet sockets", func(h *host) {
			h.Portless = func(context.Context) (socket.PortlessTable, error) {
				l := socket.Listener{PacketType: socket.PacketRaw, Sockets: 1}
				l.Protocol, l.Interface, l.Port = socket.Packet, "eth0", 3
				return socket.PortlessTable{Listeners: []socket.Listener{l}, FiltersHidden: true, Unread: map[socket.Protocol]int{socket.Packet: 0}}, nil
			}
			h.PortlessOwners = owners{3: {Process: "tcpdump"}}
		}, []string{"3 of 7 listeners are unexpected", "packet device eth0, EtherType 0x0003", "tcpdump", "It is unknown whether packet sockets have a filter.", "Run as root, or with CAP_NET_ADMIN."}, ""},
		{"ephemeral ports", func(h *host) {
			use := porttest.Times(900, porttest.Socket(socket.TCP, socket.Established, "10.0.0.1:50000", "10.0.0.9:5432"))
			for i := range use {
				use[i].Local = netip.AddrPortFrom(use[i].Local.Addr(), uint16(50000+i))
			}
			h.Source = porttest.Sockets(use)
			h.EphemeralPorts = func() (socket.EphemeralPorts, error) {
				return socket.EphemeralPorts{PortRange: socket.PortRange{First: 50000, Last: 50999}}, nil
			}
		}, []string{"! 2 limits are near", "Ephemeral ports to 10.0.0.9:5432", "900 of 1,000", "! near"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := busyHost()
			tt.change(h)
			body, text := h.page(t, there, "/")
			inOrder(t, text, tt.want...)
			if tt.not != "" && strings.Contains(body, tt.not) {
				t.Errorf("%q is on the page:\n%s", tt.not, text)
			}
		})
	}
}

// broken is a source that fails.
type broken struct{}

func (broken) Sockets(context.Context, socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) { yield(nil, errors.New("netlink is tired")) }
}

// stuck is a source that does not answer until it is released.
type stuck struct{ release chan struct{} }

func (s stuck) Sockets(context.Context, socket.StateSet) iter.Seq2[*socket.Socket, error] {
	<-s.release
	return func(func(*socket.Socket, error) bool) {}
}

// TestDeadline has a host that does not answer: the page comes at its deadline, and says
// so. Without room for another read there is none.
func TestDeadline(t *testing.T) {
	h := busyHost()
	source := stuck{make(chan struct{})}
	defer close(source.release)
	h.Source = source
	e := collector.New(h.Options)
	h.pages.View = func(ctx context.Context) (*collector.View, error) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		return e.View(ctx)
	}
	_, text := h.page(t, there, "/")
	inOrder(t, text, "the listeners are unknown", "The listeners could not be read: context deadline exceeded.", "Links")
	h.pages.View = func(context.Context) (*collector.View, error) { return nil, &collector.BusyError{Running: 7} }
	for _, path := range []string{"/", "/listener?protocol=tcp&address=::&port=1", "/target?target=a"} {
		if status, body := h.get(t, there, path); status != 503 || !strings.Contains(body, "hint: scrape less often") {
			t.Errorf("%s without room: %d %s", path, status, body)
		}
	}
	h.pages.View = func(context.Context) (*collector.View, error) { return nil, fs.ErrInvalid }
	if status, _ := h.get(t, there, "/"); status != 500 {
		t.Errorf("another error: %d", status)
	}
}

func TestFilter(t *testing.T) {
	h := busyHost()
	h.pages.Targets = targets
	everything := []string{"0.0.0.0:40000", "127.0.0.1:4444", "127.0.0.1:9000", "0.0.0.0:443", "0.0.0.0:123", "127.0.0.1:22"}
	for query, want := range map[string][]string{
		"": everything, "?q=&scope=&verdict=&refresh=": everything, "?refresh=0": everything,
		"?q=NGINX": {"0.0.0.0:443"}, "?q=+443+": {"0.0.0.0:443"}, "?q=eve": {"0.0.0.0:40000"}, "?q=docker-": {"127.0.0.1:9000"},
		"?q=no+backdoor": {"127.0.0.1:4444"}, "?q=udp": {"0.0.0.0:123"}, "?q=nothing": nil,
		"?scope=loopback": {"127.0.0.1:4444", "127.0.0.1:9000", "127.0.0.1:22"}, "?scope=any&verdict=expected": {"0.0.0.0:443", "0.0.0.0:123"},
		"?verdict=forbidden": {"127.0.0.1:4444"}, "?verdict=attention": {"0.0.0.0:40000", "127.0.0.1:4444", "127.0.0.1:9000"},
	} {
		body, _ := h.page(t, there, "/"+query)
		var got []string
		for _, m := range regexp.MustCompile(`<a href="/listener[^>]*>(?:tcp|udp) ([^<]*)</a>`).FindAllStringSubmatch(body, -1) {
			got = append(got, m[1])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	if _, text := h.page(t, there, "/?q=10.0.0.5"); !strings.Contains(text, "1 of 4 targets match") || !strings.Contains(text, "None of 6 listeners matches") {
		t.Errorf("one target:\n%s", text)
	}
	body, _ := h.page(t, there, "/?q=%22%3E%3Cb%3E&refresh=45&scope=any")
	for _, want := range []string{`<meta http-equiv="refresh" content="45">`, `value="&#34;&gt;&lt;b&gt;"`, `<option value="45" selected>`, `<option value="any" selected>`,
		`<a href="/?refresh=45">Clear</a>`, `">Stop refreshing</a>`} {
		if !strings.Contains(body, want) {
			t.Errorf("lacks %s in\n%s", want, body)
		}
	}
	for query, want := range map[string]string{"scope=world": "hint: any, public", "verdict=bad": "hint: attention, unexpected", "refresh=1": "from 5 to 3600", "refresh=x": "from 5 to 3600", "refresh=9999": "hint: refresh=10"} {
		if status, body := h.get(t, there, "/?"+query); status != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// TestManyRows has more listeners than a page shows.
func TestManyRows(t *testing.T) {
	h := busyHost()
	var all porttest.Sockets
	for i := range shownRows + 50 {
		all = append(all, porttest.Socket(socket.TCP, socket.Listen, fmt.Sprintf("127.0.0.1:%d", 1000+i), ""))
	}
	h.Source, h.Limits.Listeners = all, 1000
	rows := func(body string) int { return strings.Count(body, `<a href="/listener`) }
	body, _ := h.page(t, there, "/?q=127")
	if n := rows(body); n != shownRows || !strings.Contains(body, `<a href="/?all=1&amp;q=127">Show all</a>`) {
		t.Errorf("%d rows", n)
	}
	if body, _ = h.page(t, there, "/?all=1"); rows(body) != len(all) || strings.Contains(body, "Show all") {
		t.Errorf("%d rows of %d", rows(body), len(all))
	}
}

// evil would be a tag, end an attribute, be a script, drive a terminal and turn text.
const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>` + "\x1b[2J\u202etxt\x00\xff"

// TestHostileNames puts that into every name that others have a say in.
func TestHostileNames(t *testing.T) {
	h := busyHost()
	h.Owners = owners{443: {Process: evil, User: evil, Unit: evil, Container: evil, Executable: evil, PID: 1}}
	h.Policy = []policy.Rule{{Name: evil, Comment: evil, Ports: ports(443)}, {Name: evil, Comment: evil, Ports: ports(1), Required: true}}
	h.Source = porttest.Sockets{porttest.Socket(socket.TCP, socket.Listen, "0.0.0.0:443", "", func(s *socket.Socket) { s.Interface = evil })}
	h.pages.Hostname, h.pages.Version = evil, evil
	module := &probe.Module{Name: evil, Kind: probe.KindTCP}
	target := &probe.Target{Name: evil, Address: evil, Module: module, Hostname: evil, Labels: []probe.Label{{Name: "l", Value: evil}}}
	report := schedule.Report{Target: target, At: now, Tally: &schedule.Tally{}, Result: probe.Result{Outcome: probe.Status, Origin: probe.OriginTarget, Err: errors.New(evil), Redirect: evil}}
	h.pages.Targets = func() []schedule.Past {
		return []schedule.Past{{Report: report, State: schedule.Failing, Since: now, Runs: []schedule.Run{{At: now, State: schedule.Failing}}}}
	}
	h.pages.History = func() []schedule.Entry { return []schedule.Entry{{ID: 1, Report: report}} }
	at := url.Values{"protocol": {"tcp"}, "address": {"0.0.0.0"}, "port": {"443"}, "interface": {evil}}
	of := url.Values{"target": {evil}, "module": {evil}, "name": {evil}}
	for _, path := range []string{"/", "/?q=" + url.QueryEscape(evil), "/listener?" + at.Encode(), "/target?" + of.Encode()} {
		for _, from := range []string{here, there} {
			body, text := h.page(t, from, path)
			if regexp.MustCompile(`<(script|img)|[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{9f}\x{202e}]`).MatchString(body) {
				t.Errorf("%s is acted upon:\n%s", path, body)
			}
			if tags := regexp.MustCompile(`<[^>]*(onerror|javascript:)[^>]*>`).FindString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(body, `""`)); tags != "" {
				t.Errorf("%s: a tag is %s", path, tags)
			}
			if !strings.Contains(text, "alert(1)") {
				t.Errorf("%s: the name is not on the page:\n%s", path, text)
			}
		}
	}
	for _, path := range []string{"/listener?protocol=%1b", "/listener?protocol=tcp&address=%1b", "/?scope=%1b", "/?refresh=%1b"} {
		if status, body := h.get(t, there, path); status != 400 || strings.Contains(body, "\x1b") {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
}

// TestNoLinksForStrangers has a client elsewhere look at all pages: nothing leads to what
// it may not see, and neither that nor the error is on them.
func TestNoLinksForStrangers(t *testing.T) {
	h := busyHost()
	h.pages.Targets = targets
	h.pages.History = func() []schedule.Entry { return []schedule.Entry{{ID: 42, Report: targets()[3].Report}} }
	secret := "/target?module=http_2xx&name=secret&target=" + url.QueryEscape("http://me:xxxxx@10.0.0.8/")
	open := "/target?module=tcp_connect&name=good&target=10.0.0.5:80"
	for _, path := range []string{"/", "/listener?protocol=tcp&address=0.0.0.0&port=443", secret, open} {
		body, text := h.page(t, there, path)
		for _, hidden := range []string{"/check", "logs", "debug=true", "/usr/sbin/nginx", "dial ", "Address tried"} {
			if strings.Contains(body, hidden) {
				t.Errorf("%s has %q for a stranger:\n%s", path, hidden, text)
			}
		}
		mine, _ := h.page(t, here, path)
		for _, b := range []string{body, mine} {
			if strings.Contains(b, "s3cret") {
				t.Errorf("%s has a password", path)
			}
		}
	}
	for path, want := range map[string]string{
		"/": `href="/logs"`, "/?q=short": `<a class="next" href="/check?module=tcp_connect&amp;target=10.0.0.7%3A80">Check it now</a>`, secret: `href="/logs?id=42"`, open: `href="/probe?debug=true&amp;module=tcp_connect&amp;target=10.0.0.5%3A80"`,
		"/listener?protocol=tcp&address=0.0.0.0&port=443": "/usr/sbin/nginx",
	} {
		if body, _ := h.page(t, here, path); !strings.Contains(body, want) {
			t.Errorf("%s lacks %s for a client on this host:\n%s", path, want, body)
		}
	}
	if _, text := h.page(t, there, secret); !strings.Contains(text, "http://me:xxxxx@10.0.0.8/ refuses") {
		t.Errorf("the sentence is not on the page of the target:\n%s", text)
	}
	if body, _ := h.page(t, here, secret); strings.Contains(body, "/probe?") || strings.Contains(body, "/check") || !strings.Contains(body, "dial http://me:xxxxx@10.0.0.8/: refused") {
		t.Errorf("a link with a password, or no error:\n%s", body)
	}
}

func TestPageOfAListener(t *testing.T) {
	h := busyHost()
	_, text := h.page(t, there, "/listener?protocol=tcp&address=0.0.0.0&port=443")
	inOrder(t, text, "web-1", "tcp 0.0.0.0:443", "✓ expected", "by the rule web", "every address", "nginx", "nginx.service", "www-data",
		"First seen", "60 s ago", `{__name__=~&#34;port_.&#43;&#34;,protocol=&#34;tcp&#34;,address=&#34;0.0.0.0&#34;,port=&#34;443&#34;}`, "Queue", "3/511", "established 1,200")
	_, text = h.page(t, there, "/listener?protocol=tcp&address=0.0.0.0&port=40000")
	inOrder(t, text, "✗ unexpected", "no rule of the policy matches", "its executable was deleted or replaced", "is one that the kernel gives to clients", "None, or unknown.")
	if status, body := h.get(t, there, "/listener?protocol=tcp&address=::&port=443"); status != 404 || !strings.Contains(body, "Nothing listens there now.") {
		t.Errorf("one that is not there: %d %s", status, body)
	}
	for query, want := range map[string]string{"protocol=icmp&address=::&port=1": "hint: tcp, udp", "protocol=tcp&address=x&port=1": "hint: address=0.0.0.0", "protocol=tcp&address=fe80::1%25%e2%80%aex&port=1": "hint: address=0.0.0.0", "protocol=tcp&address=::&port=70000": "hint: a number from 1"} {
		if status, body := h.get(t, there, "/listener?"+query); status != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	h.Source = broken{}
	if _, text := h.page(t, there, "/listener?protocol=tcp&address=::&port=1"); !strings.Contains(text, "netlink is tired") {
		t.Error(text)
	}
}

func TestPageOfATarget(t *testing.T) {
	h := busyHost()
	h.pages.Targets = targets
	_, text := h.page(t, there, "/target?module=http_2xx&name=secret&target="+url.QueryEscape("http://me:xxxxx@10.0.0.8/"))
	inOrder(t, text, "secret", "✗ fails", "refuses", "In this state since 61 min ago", "http_2xx (http), expects open", "team=&#34;x&#34;", "every 1m0s", "refused", "connect", "target", "Last ten probes", "✗ refused", "refused 1")
	if status, text := h.get(t, there, "/target?module=http_2xx&name=secret&target=http://me:s3cret@10.0.0.8/"); status != 404 || strings.Contains(text, "fails") {
		t.Errorf("a password that was guessed: %d %s", status, text)
	}
	if status, body := h.get(t, there, "/target?target=other"); status != 404 || !strings.Contains(body, "The configuration has no such target.") {
		t.Errorf("another one: %d %s", status, body)
	}
}

// TestPathOnThePageOfATarget has a target that was traced. As with a check, the hops are
// for clients that may see details.
func TestPathOnThePageOfATarget(t *testing.T) {
	h := busyHost()
	h.pages.Targets = targets
	h.pages.Path = func(of *probe.Target, _ *probe.Result) (probe.Path, time.Time) {
		if of.Name != "secret" {
			return nil, time.Time{}
		}
		return &trace.Path{Hops: []trace.Hop{{Number: 1, Addr: netip.MustParseAddr("192.0.2.1")}, {Number: 2}}}, now
	}
	secret := "/target?module=http_2xx&name=secret&target=" + url.QueryEscape("http://me:xxxxx@10.0.0.8/")
	_, text := h.page(t, here, secret)
	inOrder(t, text, "Path, traced at", "60 s ago", "hop", "✓ ok", "1: 192.0.2.1", "hop", "? unknown", "2: no answer", "trace", "✗ failed", "dies behind 192.0.2.1")
	for from, path := range map[string]string{there: secret, here: "/target?module=tcp_connect&name=good&target=10.0.0.5:80"} {
		if _, text := h.page(t, from, path); strings.Contains(text, "traced") {
			t.Errorf("%s for %s: %s", path, from, text)
		}
	}
}

// TestPageLooksAsRecorded compares the page of a host that has everything with a file.
// The pictures of the documents are of today's page as long as it does not change.
func TestPageLooksAsRecorded(t *testing.T) {
	h := busyHost()
	h.pages.Targets = targets
	body, _ := h.page(t, here, "/")
	porttest.Golden(t, "testdata/page.html", body)
}

// TestPageOfACheck checks targets with reports of every mark.
func TestPageOfACheck(t *testing.T) {
	h := busyHost()
	module := &probe.Module{Name: "tcp_connect", Kind: probe.KindTCP}
	for _, tt := range []struct {
		target  probe.Target
		result  probe.Result
		want    []string
		without string
	}{
		{probe.Target{Address: "10.0.0.9:80", Module: module}, probe.Result{Peer: netip.MustParseAddrPort("10.0.0.9:80")},
			[]string{"web-1", "10.0.0.9:80", "10.0.0.9:80 is open.", "✓ as expected", "About", "✓ ok", "Check again"}, "Try:"},
		{probe.Target{Address: "10.0.0.9:80", Module: module, Hostname: "name.test"}, probe.Result{Outcome: probe.Refused, Phase: probe.PhaseConnect, Origin: probe.OriginTarget, Err: errors.New("refused")},
			[]string{"10.0.0.9:80 refuses", "✗ not as expected", "cause: at the target", "Try:", "✗ failed"}, ""},
		{probe.Target{Address: "10.0.0.9:80", Module: module}, probe.Result{Outcome: probe.Denied, Origin: probe.OriginLocal}, []string{"! not tried", "cause: on this host"}, ""},
		{probe.Target{Address: evil, Module: module}, probe.Result{Outcome: probe.Status, Err: errors.New(evil), Redirect: evil}, []string{"alert(1)"}, "<script"},
		{probe.Target{Address: "http://me:s3cret@10.0.0.9/", Module: module}, probe.Result{Outcome: probe.Refused, Err: errors.New("http://me:s3cret@10.0.0.9/")}, []string{"me:xxxxx@"}, "Check again"},
	} {
		module.Prober = answering{tt.result}
		h.pages.Report = func(_ http.ResponseWriter, r *http.Request) (*check.Report, bool) {
			return (&check.Host{}).Run(r.Context(), check.Request{Target: &tt.target}), true
		}
		body, text := h.page(t, here, "/check?target=x")
		inOrder(t, text, tt.want...)
		if tt.without != "" && strings.Contains(body, tt.without) || strings.Contains(body, "s3cret") || strings.Contains(body, "\x1b") {
			t.Errorf("%s: has %q, or what it must not:\n%s", tt.target.Address, tt.without, body)
		}
	}
	h.pages.Report = func(w http.ResponseWriter, _ *http.Request) (*check.Report, bool) {
		http.Error(w, "not for you", http.StatusForbidden)
		return nil, false
	}
	if status, body := h.get(t, there, "/check?target=x"); status != 403 || body != "not for you\n" {
		t.Errorf("%d %s", status, body)
	}
}

// answering is a prober with one result.
type answering struct{ result probe.Result }

func (a answering) Probe(context.Context, probe.Request) probe.Result { return a.result }

func TestLinksAndAssets(t *testing.T) {
	h := busyHost()
	h.pages.Targets = targets
	h.pages.LinkPrefix, h.pages.MetricsPath = "/outside", "/m"
	body, _ := h.page(t, here, "/?q=e&refresh=10")
	for _, want := range []string{`href="/outside/m"`, `href="/outside/m?collect%5B%5D=probes"`, `action="/outside/"`, `href="/outside/-/ready"`, `href="/outside/sd/probes"`,
		`href="/outside/listener?address=0.0.0.0&amp;port=443&amp;protocol=tcp"`, `href="/outside/?refresh=10">Clear`, `href="/outside/static/page.css?v=`, `href="/outside/static/favicon.svg?v=`} {
		if !strings.Contains(body, want) {
			t.Errorf("lacks %s in\n%s", want, body)
		}
	}
	for _, m := range regexp.MustCompile(`(?:href|action)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		if !strings.HasPrefix(m[1], "/outside/") && !strings.HasPrefix(m[1], "#") {
			t.Errorf("the link %s leads elsewhere", m[1])
		}
	}
	for path, want := range map[string]int{"/static/page.css": 200, "/static/favicon.svg?v=1": 200, "/static/page.html": 404, "/static/..%2fstatus.go": 404} {
		if status, _ := h.get(t, there, path); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestWords(t *testing.T) {
	for want, got := range map[string]string{
		"1,234,567": number(1234567), "999": number(999), "1,000": number(1000), "0": number(0),
		"0 B": size(0), "1.5 kB": size(1500), "150 MB": size(150e6), "2.0 GB": size(2e9),
		"now": ago(-time.Second), "5 s": ago(5 * time.Second), "3 min": ago(3 * time.Minute), "5 h": ago(5 * time.Hour), "3 days": ago(75 * time.Hour),
		"1.5 ms": took(1500 * time.Microsecond), "2.5 s": took(2500 * time.Millisecond), "1 queue": counted(1, "queue"), "2 queues": counted(2, "queue"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, s := range socket.Scopes() {
		if reach(s) == s.String() {
			t.Errorf("scope %s has no words", s)
		}
	}
	for _, tone := range []tone{bad, warn, unknown, plainly, good} {
		if tone.symbol() == "" {
			t.Errorf("%s has no symbol", tone)
		}
	}
}

// rooms are two containers, one with a listener that no rule expects. Another namespace was
// not read.
type rooms struct{}

func (rooms) Missing() []string { return nil }

func (rooms) Read(context.Context) (found netns.Found, err error) {
	found.Depths[netns.Unread] = 1
	for i, id := range []netns.Identity{
		{Name: "docker-0123456789ab", Runtime: "docker", Container: "quiet"},
		{Name: "pod2b0c5a1e", Runtime: "containerd", Pod: "web-0<b>", Namespace: "shop", PodUID: "2b0c5a1e"},
	} {
		found.Namespaces = append(found.Namespaces, netns.Namespace{
			Identity: id, Depth: netns.Full, Source: porttest.Sockets{porttest.Socket(socket.TCP, socket.Listen, fmt.Sprintf("0.0.0.0:%d", 8080+i), "")},
			EphemeralPorts: func(context.Context) (socket.EphemeralPorts, error) { return socket.EphemeralPorts{}, nil },
		})
	}
	return found, nil
}

// TestPageByNamespace groups listeners by network namespace, those that need attention first.
func TestPageByNamespace(t *testing.T) {
	h := busyHost()
	h.Namespaces, h.NamespaceOwners = rooms{}, owners{8080: {Process: "java"}, 8081: {Process: "java"}}
	h.Limits.Namespaces, h.Limits.NamespaceListeners = 10, 10
	text := func() string {
		_, body := h.get(t, here, "/")
		return body
	}
	wantInOrder(t, text(), "6 listeners", "This host", "0.0.0.0:40000", "docker-0123456789ab <span class=\"note\">container quiet, docker<", "0.0.0.0:8080",
		"no rule is about it", "pod2b0c5a1e <span class=\"note\">pod shop/web-0&lt;b&gt;, containerd<", "1 network namespace was not read")
	h.Policy = []policy.Rule{{Name: "ours", Netns: []string{"*"}, Ports: []socket.PortRange{{First: 1, Last: 8080}, {First: 9000, Last: 9000}, {First: 40000, Last: 40000}}}}
	wantInOrder(t, text(), "1 of 8 listeners is unexpected", "pod2b0c5a1e", "0.0.0.0:8081", "unexpected", "This host", "docker-0123456789ab", "rule ours")
	status, page := h.get(t, here, "/listener?netns=pod2b0c5a1e&protocol=tcp&address=0.0.0.0&port=8081")
	if status != http.StatusOK {
		t.Error(status)
	}
	wantInOrder(t, page, "unexpected", "Network namespace", "pod2b0c5a1e", "pod shop/web-0&lt;b&gt;")
}

// wantInOrder compares a page with texts that it has in this order.
func wantInOrder(t *testing.T, page string, texts ...string) {
	t.Helper()
	rest := page
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			t.Errorf("no %s after those before it:\n%s", text, page)
			return
		}
		rest = after
	}
}
