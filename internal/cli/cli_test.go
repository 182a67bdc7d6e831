package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
)

// processes is a host that knows the holders of sockets by cookie.
type processes map[uint64]owner.Process

func (p processes) Find(_ context.Context, members []socket.Member, report func(uint64, owner.Found)) {
	for _, m := range members {
		if process, ok := p[m.ID()]; ok {
			report(m.ID(), owner.Found{Fate: owner.Held, Process: process})
		}
	}
}
func (p processes) Look(_ context.Context, known owner.Process, _ []socket.Member) owner.Sight {
	return owner.Sight{Process: known, Unclear: true}
}
func (p processes) Unit(context.Context, socket.Member) (unit, container string) { return "", "" }
func (p processes) Names() owner.Names                                           { return owner.Names{} }
func (p processes) Missing() []string                                            { return []string{"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"} }

func cookie(n uint64) func(*socket.Socket) { return func(s *socket.Socket) { s.Cookie = n } }

// host is a small host: a service on two addresses, a deleted executable, a
// name that a terminal would act upon, a container on an ephemeral port, and a
// listener that could not be read.
func host(t *testing.T, policy string) (h *Command, stdout, stderr *bytes.Buffer) {
	t.Helper()
	c, err := config.Parse([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	queue := func(s *socket.Socket) { s.AcceptQueue, s.AcceptQueueLimit = 3, 511 }
	source := porttest.Sockets{
		porttest.Socket(socket.TCP, socket.Listen, "[::]:80", "", cookie(1), queue),
		porttest.Socket(socket.TCP, socket.Listen, "127.0.0.1:80", "", cookie(1), queue),
		porttest.Socket(socket.TCP, socket.Listen, "127.0.0.1:6379", "", cookie(2)),
		porttest.Socket(socket.TCP, socket.Listen, "0.0.0.0:666", "", cookie(3), func(s *socket.Socket) { s.Interface = "eth0" }),
		porttest.Socket(socket.TCP, socket.Listen, "10.0.0.5:41000", "", cookie(4)),
		porttest.Socket(socket.TCP, socket.Listen, "0.0.0.0:99", "", cookie(9), func(s *socket.Socket) { s.Known = 0 }),
		porttest.Socket(socket.UDP, socket.Unconnected, "0.0.0.0:53", "", cookie(2)),
		porttest.Socket(socket.UDP, socket.Unconnected, "0.0.0.0:41001", "", cookie(2)), // a client
	}
	named := func(name, unit, container string, pid int32) owner.Process {
		return owner.Process{Owner: socket.Owner{Process: name, User: "svc", Unit: unit, Container: container, Executable: "/usr/sbin/" + name, PID: pid}}
	}
	deleted := named("redis-server", "redis.service", "", 20)
	deleted.Deleted = true
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return &Command{
		System: &system.System{
			Source: source,
			Owners: owner.New(processes{1: named("nginx", "nginx.service", "", 10), 2: deleted, 3: named("evil\x1b[31m\n\xff", "", "", 30), 4: named("node", "", "docker-0123456789ab", 40)}, slog.New(slog.DiscardHandler)),
			EphemeralPorts: func() (socket.EphemeralPorts, error) {
				return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
			},
		},
		Config: c, Stdout: stdout, Stderr: stderr,
	}, stdout, stderr
}

const rules = `policy:
  rules:
    - {name: web, process: nginx, comment: the site}
    - {name: cache, process: redis-server, scope: loopback}
    - {name: database, ports: 5432, required: true, comment: "must always be there"}
`

// forbidding has an exception that ended beside a rule that forbids, and asks for
// the owner of what has none.
const forbidding = `policy:
  rules:
    - {name: no dns, ports: 53, forbid: true, severity: warning, comment: not here}
    - {name: web, process: nginx, until: 2020-01-01}
    - {name: oddity, ports: 99, process: odd, required: true}
    - {name: what is known, process: "*"}
`

const unverifiable = `policy: {rules: [{name: named, process: "*"}, {name: all else, scope: loopback}]}`

const inDoubt = ": whether a rule matches depends on an owner that could not be read"

func TestListeners(t *testing.T) {
	for name, tt := range map[string]struct {
		policy, output string
		onlyUnexpected bool
		status         int
		message        string
	}{
		"table":            {"", outputTable, false, 0, ""},
		"table_policy":     {rules, outputTable, false, 1, "3 unexpected\n1 unverified" + inDoubt + "\nmissing: database (must always be there)"},
		"table_unexpected": {rules, outputTable, true, 1, "3 unexpected\n1 unverified" + inDoubt + "\nmissing: database (must always be there)"},
		"json_unexpected":  {rules, outputJSON, true, 1, "3 unexpected\n1 unverified" + inDoubt + "\nmissing: database (must always be there)"},
		"csv_policy":       {rules, outputCSV, false, 1, "3 unexpected\n1 unverified" + inDoubt + "\nmissing: database (must always be there)"},
		"table_forbidden":  {forbidding, outputTable, true, 1, "1 forbidden\n1 unverified" + inDoubt + "\nrequired, but unverified: oddity"},
		"json_forbidden":   {forbidding, outputJSON, true, 1, "1 forbidden\n1 unverified" + inDoubt + "\nrequired, but unverified: oddity"},
		"table_unverified": {unverifiable, outputTable, true, 3, "1 unverified" + inDoubt},
	} {
		t.Run(name, func(t *testing.T) {
			h, stdout, stderr := host(t, tt.policy)
			err := Listeners(t.Context(), h, ListenersOptions{Output: tt.output, Unexpected: tt.onlyUnexpected})
			var exit *ExitError
			switch {
			case tt.status == 0 && err != nil:
				t.Errorf("error %v", err)
			case tt.status != 0 && (!errors.As(err, &exit) || exit.Code != tt.status || exit.Message != tt.message):
				t.Errorf("error %+v, want status %d: %s", err, tt.status, tt.message)
			}
			porttest.Golden(t, filepath.Join("testdata", name+".txt"), stdout.String())
			if want := "the process of 1 of the listeners is unknown\nhint: run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH\n"; stderr.String() != want {
				t.Errorf("said %q, want %q", stderr, want)
			}
			if strings.Contains(stdout.String(), "\x1b") {
				t.Error("a name reaches the terminal as it is")
			}
		})
	}
}

func TestFailures(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	missing := filepath.Join(t.TempDir(), "none.yml")
	bad := filepath.Join(t.TempDir(), "bad.yml")
	if err := os.WriteFile(bad, []byte("polcy: {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain, _, _ := host(t, "")
	guarded, _, _ := host(t, rules)
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"no policy":           {Listeners(t.Context(), plain, ListenersOptions{Unexpected: true}), "hint: write one with: port_exporter baseline"},
		"the source fails":    {Listeners(cancelled, guarded, ListenersOptions{}), "context canceled"},
		"baseline fails":      {Baseline(cancelled, guarded, BaselineOptions{}), "context canceled"},
		"no file to merge":    {Baseline(t.Context(), guarded, BaselineOptions{Merge: missing}), missing},
		"a bad file to merge": {Baseline(t.Context(), guarded, BaselineOptions{Merge: bad}), bad + ": line 1: polcy: unknown key"},
	} {
		var exit *ExitError
		if !errors.As(tt.err, &exit) || exit.Code != 2 || !strings.Contains(exit.Message, tt.want) {
			t.Errorf("%s: %+v", name, tt.err)
		}
	}
}

// TestSilence checks that a run with --unexpected that has nothing to report writes
// nothing, so that cron mails nothing, not even of owners that no rule asks for.
func TestSilence(t *testing.T) {
	for output, want := range map[string]string{outputTable: "", outputJSON: "{\n  \"listeners\": [],\n  \"partial\": [],\n  \"unknown\": [\n    \"raw\",\n    \"packet\",\n    \"vsock\",\n    \"unix\"\n  ]\n}\n"} {
		h, stdout, stderr := host(t, "policy: {rules: [{name: all}]}")
		if err := Listeners(t.Context(), h, ListenersOptions{Output: output, Unexpected: true}); err != nil {
			t.Errorf("%s: %v", output, err)
		}
		if stdout.String() != want || stderr.String() != "" {
			t.Errorf("%s: wrote %q and %q", output, stdout, stderr)
		}
	}
}

// TestUnknownVsock holds that a kernel that does not report vsock listeners is named
// where someone asks, and not in each mail of cron.
func TestUnknownVsock(t *testing.T) {
	const about = `policy: {rules: [{name: agent, protocol: vsock}]}`
	for _, tt := range []struct {
		policy, output string
		unexpected     bool
		said           bool
	}{
		{unverifiable, outputTable, true, false},
		{unverifiable, outputJSON, true, false},
		{unverifiable, outputJSON, false, false},
		{unverifiable, outputCSV, false, false},
		{unverifiable, outputTable, false, true},
		{about, outputTable, true, true},
		{about, outputJSON, false, true},
	} {
		h, stdout, stderr := host(t, tt.policy)
		h.System.Portless = func(context.Context) (socket.PortlessTable, error) { return socket.PortlessTable{}, nil }
		h.System.PortlessOwners = owner.New(processes{}, slog.New(slog.DiscardHandler))
		err := Listeners(t.Context(), h, ListenersOptions{Output: tt.output, Unexpected: tt.unexpected})
		if said := strings.Contains(stderr.String(), "vsock"); said != tt.said || err == nil {
			t.Errorf("%+v: error %v, said %q", tt, err, stderr)
		}
		if tt.output == outputJSON && !strings.Contains(stdout.String(), `"vsock"`) {
			t.Errorf("%+v: wrote %s", tt, stdout)
		}
	}
}

// TestBaselineAsks holds that a listener which other hosts reach on a port of
// clients is pinned to that port, so that the next one is not expected.
func TestBaselineAsks(t *testing.T) {
	h, stdout, _ := host(t, "")
	if err := Baseline(t.Context(), h, BaselineOptions{}); err != nil {
		t.Fatal(err)
	}
	text := stdout.String()
	if strings.Contains(text, "ephemeral") || !strings.Contains(text, "ports: 41000") || !strings.Contains(text, "is this meant?") {
		t.Errorf("a listener on a port of clients is taken for granted:\n%s", text)
	}
	h, stdout, _ = host(t, "")
	if err := Baseline(t.Context(), h, BaselineOptions{Ephemeral: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), "ports: ephemeral") {
		t.Errorf("not as was asked for:\n%s", stdout)
	}
}

func TestBaselineLeavesOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yml")
	if err := os.WriteFile(file, []byte(forbidding), 0o600); err != nil {
		t.Fatal(err)
	}
	h, stdout, stderr := host(t, "")
	if err := Baseline(t.Context(), h, BaselineOptions{Merge: file}); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != forbidding {
		t.Errorf("rules were added:\n%s", stdout)
	}
	for _, want := range []string{"no rule is added for udp 0.0.0.0 port 53: rule no dns forbids it\n", "no rule is added for 1 listeners whose owner could not be read"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q lacks %q", stderr, want)
		}
	}
}

func TestBaseline(t *testing.T) {
	h, stdout, _ := host(t, "")
	if err := Baseline(t.Context(), h, BaselineOptions{}); err != nil {
		t.Fatal(err)
	}
	porttest.Golden(t, "testdata/baseline.yml", stdout.String())

	h, out, _ := host(t, stdout.String())
	if err := Listeners(t.Context(), h, ListenersOptions{Unexpected: true}); err != nil {
		t.Errorf("the baseline does not expect its own host: %v\n%s", err, out)
	}
}

func TestBaselineMerge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yml")
	old := "# Ours.\npolicy:\n  rules:\n    # the site\n    - name: web # always\n      process: nginx\n"
	if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	h, stdout, _ := host(t, "")
	if err := Baseline(t.Context(), h, BaselineOptions{Merge: file}); err != nil {
		t.Fatal(err)
	}
	porttest.Golden(t, "testdata/merged.yml", stdout.String())
	if !strings.HasPrefix(stdout.String(), old) {
		t.Errorf("what stood there changed:\n%s", stdout)
	}
}

// TestStrangersNames has processes whose names would act upon a terminal or a
// spreadsheet, could not be seen, or look like what the table writes itself.
func TestStrangersNames(t *testing.T) {
	for name, want := range map[string][3]string{ // table, CSV, JSON
		"\x1b]0;owned\a":  {`  "\x1b]0;owned\a"  `, `,\x1b]0;owned\x07,`, `"\u001b]0;owned\u0007"`},
		"\u202eexe.txt":   {`  "\u202eexe.txt"  `, `,\u202eexe.txt,`, `"\u202eexe.txt"`},
		"\u009b31m":       {`  "\u009b31m"  `, `,\u009b31m,`, `"\u009b31m"`},
		"a\xff":           {`  "a\xff"  `, `,a\xff,`, `"a\\xff"`},
		" ":               {`  " "  `, `," ",`, `" "`},
		"=cmd|'/C calc'!": {`  =cmd|'/C calc'!  `, `,'=cmd|'/C calc'!,`, `"=cmd|'/C calc'!"`},
		"@SUM(1)":         {`  @SUM(1)  `, `,'@SUM(1),`, `"@SUM(1)"`},
		"-":               {`  "-"  `, `,'-,`, `"-"`},
		"x (deleted)":     {`  "x (deleted)"  `, `,x (deleted),`, `"x (deleted)"`},
	} {
		r := row{Protocol: "tcp", Address: "::", Port: 1, Interface: name, Process: name, Comm: name[:1], User: name, Unit: name, Container: name, Executable: name}
		for i, write := range []func(io.Writer) error{
			func(w io.Writer) error { return writeTable(w, &judged{rows: []row{r}, hasPolicy: false}, false) },
			func(w io.Writer) error { return writeCSV(w, &judged{rows: []row{r}}) },
			func(w io.Writer) error { return writeJSON(w, &judged{rows: []row{r}, read: &reading{}}) },
		} {
			var out strings.Builder
			if err := write(&out); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), want[i]) {
				t.Errorf("%q, form %d: lacks %s:\n%s", name, i, want[i], out.String())
			}
			if bad := strings.IndexFunc(out.String(), func(c rune) bool { return c != '\n' && unicode.In(c, unicode.Cc, unicode.Cf) }); bad >= 0 {
				t.Errorf("%q, form %d: %q is in it", name, i, out.String()[bad:])
			}
		}
	}
}
