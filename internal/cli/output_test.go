package cli

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// mixed has every verdict on the listeners of host, a required rule that is
// missing, and one that could not be verified.
const mixed = `policy:
  rules:
    - {name: no dns, ports: 53, forbid: true, severity: warning, comment: "not | here"}
    - {name: web, ports: 80, process: nginx, until: 2027-01-31, comment: for the <fair>}
    - {name: oddity, ports: 99, process: odd, required: true}
    - {name: cache, process: redis-server, scope: loopback}
    - {name: old, ports: 8080, until: 2020-01-01}
    - {name: database, ports: 5432, required: true, severity: info, comment: "must always be there"}
`

// saved returns a host whose listeners are in a file, as another host would have
// written it.
func saved(t *testing.T, policy string) (h *Command, file string, stdout *strings.Builder) {
	t.Helper()
	from, text, _ := host(t, "")
	if err := Listeners(t.Context(), from, ListenersOptions{Output: outputJSON}); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "web1.json")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	stdout = &strings.Builder{}
	return &Command{
		Config: c, ConfigFile: "ci/ports policy.yml", Stdout: stdout, Stderr: &strings.Builder{}, Version: "0.1.0",
		Now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC),
	}, file, stdout
}

// TestInput holds that a saved table gets the verdicts that the host itself does.
func TestInput(t *testing.T) {
	there, want, _ := host(t, mixed)
	wantErr := Listeners(t.Context(), there, ListenersOptions{Output: outputJSON})
	h, file, got := saved(t, mixed)
	err := Listeners(t.Context(), h, ListenersOptions{Output: outputJSON, Input: file})
	rows := func(text string) (table savedTable) { // bytes that are no UTF-8 are the same mark in two forms
		if err := json.Unmarshal([]byte(text), &table); err != nil {
			t.Fatal(err)
		}
		return table
	}
	if diff := cmp.Diff(rows(want.String()), rows(got.String())); diff != "" {
		t.Errorf("(-there +from the file):\n%s", diff)
	}
	if err == nil || wantErr == nil || err.Error() != wantErr.Error() {
		t.Errorf("error %v, want %v", err, wantErr)
	}
	got.Reset()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h.Stdin = strings.NewReader(string(text))
	if err := Listeners(t.Context(), h, ListenersOptions{Output: outputTable, Input: "-"}); err == nil || !strings.Contains(got.String(), "expected: web") {
		t.Errorf("standard input: %v\n%s", err, got)
	}
}

func TestBadInput(t *testing.T) {
	h, _, _ := saved(t, mixed)
	const whole = `"protocol": "tcp", "address": "10.0.0.1", "port": 80`
	for text, want := range map[string]string{
		"":                                "unexpected end of JSON input",
		"{}":                              "no list of listeners found",
		"[]":                              "cannot unmarshal array",
		`{` + whole + `}, {"port": 80}`:   `listeners[1]: protocol: unknown value ""`,
		`{"protocol": "tcp"}`:             "listeners[0]: address: ",
		`{"protocol": "tcp", "port": -1}`: "cannot unmarshal number -1",
		`{"protocol": "tcp", "address": "10.0.0.1"}`:                "listeners[0]: missing port",
		`{"protocol": "tcp", "address": "10.0.0.1", "port": 65536}`: "listeners[0]: port: 65536 is above 65535",
		`{"protocol": "unix", "address": "::"}`:                     "listeners[0]: missing path",
		`{"protocol": "vsock", "port": 65536}`:                      "listeners[0]: cid: ",
		`{"protocol": "packet", "type": "raw"}`:                     `listeners[0]: filter: unknown value ""`,
		`{` + whole + `, "scope": "world"}`:                         `listeners[0]: scope: unknown value "world"`,
		`{` + whole + `}], "partial": ["ip"], "x": [0`:              `partial: unknown value "ip"`,
	} {
		if len(text) > len("{}") {
			text = `{"listeners": [` + text + `]}`
		}
		h.Stdin = strings.NewReader(text)
		err := Listeners(t.Context(), h, ListenersOptions{Input: "-"})
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 2 || !strings.Contains(exit.Message, want) || !strings.Contains(exit.Message, "--input=-: ") || !strings.Contains(exit.Message, "hint: ") {
			t.Errorf("%s: %+v", text, err)
		}
	}
	for _, o := range []ListenersOptions{{Output: outputSARIF}, {Output: outputJUnit}, {Output: outputReport}} {
		plain, _, _ := saved(t, "")
		if err := Listeners(t.Context(), plain, o); err == nil || !strings.Contains(err.Error(), "--output="+o.Output+": no policy is configured") {
			t.Errorf("%s: %v", o.Output, err)
		}
	}
	h.Stdin = strings.NewReader(`{"listeners": [{` + whole + `}, {"protocol": "tcp", "address": "::", "port": 23}]}`) // the rest may be left out
	if err := Listeners(t.Context(), h, ListenersOptions{Input: "-"}); err == nil || !strings.HasPrefix(err.Error(), "1 unexpected\n1 unverified") {
		t.Errorf("the least that a listener can be: %v", err)
	}
	if _, err := parseTable(&endless{}); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("an endless file: %v", err)
	}
}

// TestInputHasScopesOfAddresses holds that a file cannot say that a listener is less
// exposed than its address; that an address is that of a broadcast it can.
func TestInputHasScopesOfAddresses(t *testing.T) {
	for text, want := range map[string]socket.Scope{
		`"address": "0.0.0.0", "scope": "loopback"`:         socket.ScopeAny,
		`"address": "0.0.0.0", "scope": "link_local"`:       socket.ScopeAny,
		`"address": "2001:db8::1", "scope": "link_local"`:   socket.ScopePublic,
		`"address": "192.0.2.1", "scope": "private"`:        socket.ScopePublic,
		`"address": "127.0.0.1", "scope": "any"`:            socket.ScopeLoopback,
		`"address": "127.0.0.1"`:                            socket.ScopeLoopback,
		`"address": "192.168.1.255", "scope": "link_local"`: socket.ScopeLinkLocal,
	} {
		r, err := parseTable(strings.NewReader(`{"listeners": [{"protocol": "tcp", "port": 80, ` + text + `}]}`))
		if err != nil || r.Owned[0].Scope != want {
			t.Errorf("%s: %v, want %v, %v", text, r.Owned, want, err)
		}
	}
}

// TestSavedTableJudgesAlike has random tables with every fact that a verdict
// depends on: judged live or from their JSON, all that is written is the same.
func TestSavedTableJudgesAlike(t *testing.T) {
	c, err := config.Parse([]byte(mixed + `    - {name: packets, protocol: packet, required: true}
    - {name: guests, protocol: vsock, ports: 22, forbid: true}
    - {name: any udp, protocol: udp, process: nginx, required: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(300) {
		read := randomReading(rand.New(rand.NewPCG(seed, 1)))
		h := &Command{Config: c, Stdout: io.Discard, Stderr: io.Discard, Now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
		live := h.judge(read)
		var text bytes.Buffer
		if err := writeJSON(&text, live); err != nil {
			t.Fatal(err)
		}
		h.Stdin = bytes.NewReader(text.Bytes())
		back, err := h.listeners(t.Context(), "-")
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, &text)
		}
		for _, output := range []string{outputJSON, outputSARIF, outputJUnit, outputReport} {
			var want, got bytes.Buffer
			h.Stdout = &want
			_ = h.write(ListenersOptions{Output: output, Input: "-"}, live)
			h.Stdout = &got
			_ = h.write(ListenersOptions{Output: output, Input: "-"}, h.judge(back))
			if diff := cmp.Diff(want.String(), got.String()); diff != "" {
				t.Fatalf("seed %d, %s (-live +saved):\n%s", seed, output, diff)
			}
		}
		if want, got := live.verdict(), h.judge(back).verdict(); !reflect.DeepEqual(want, got) {
			t.Fatalf("seed %d: %v, and from the file %v", seed, want, got)
		}
	}
}

// pick returns one of the values.
func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// some returns some of the values.
func some[T any](r *rand.Rand, values ...T) (all []T) {
	for _, v := range values {
		if r.IntN(4) == 0 {
			all = append(all, v)
		}
	}
	return all
}

// randomReading returns listeners of every protocol with any facts.
func randomReading(r *rand.Rand) (read reading) {
	for range r.IntN(12) {
		read.Owned = append(read.Owned, randomListener(r))
	}
	read.Pending = countPending(read.Owned)
	for range r.IntN(3) { // which no rule judges
		l := randomListener(r)
		l.Netns = pick(r, "pod2b0c5a1e", "blue\u202e")
		read.foreign = append(read.foreign, foreign{l, &namespaceRow{Runtime: "docker", Pod: pick(r, "", "web-0"), Namespace: pick(r, "", "shop"), Container: "web"}})
	}
	read.unreadNamespaces = r.IntN(2)
	read.partial, read.unknown = some(r, socket.Judged()...), some(r, socket.Portless()...)
	return read
}

func randomListener(r *rand.Rand) (o socket.Owned) {
	o.Protocol, o.Sockets = pick(r, socket.Judged()...), 1+r.IntN(9)
	switch o.Protocol {
	case socket.Vsock:
		o.SetVsock(socket.VsockAddr{CID: pick[uint32](r, 1, 3, 1<<32-1), Port: pick[uint32](r, 22, 1<<16, 1<<32-1)})
	case socket.Packet:
		o.PacketType, o.Filter, o.Port = pick(r, socket.PacketTypes()...), pick(r, socket.Filters()...), 3
	case socket.Unix:
		o.Scope = socket.ScopeLoopback
		o.Unix = pick(r, socket.UnixName{Path: "/run/a.sock"}, socket.UnixName{Path: "@a", Abstract: true}, socket.UnixName{Path: "@a"}, socket.UnixName{Path: "/two\nlines"})
	default:
		o.Address = netip.MustParseAddr(pick(r, "0.0.0.0", "127.0.0.1", "::", "::1", "10.0.0.1", "fe80::1"))
		o.Scope, o.Port = socket.ScopeOf(o.Address), pick[uint16](r, 53, 80, 99, 5432, 40000)
	}
	o.Interface, o.Ephemeral, o.Absent = pick(r, "", "lo", "eth0"), o.Port == 40000, r.IntN(2) == 0
	o.DualStack, o.MayBeClient = r.IntN(2) == 0, o.Protocol == socket.UDP && o.Ephemeral && r.IntN(2) == 0
	if o.Protocol == socket.TCP || o.Protocol == socket.Unix {
		o.Known = pick(r, 0, socket.KnowsQueues, socket.KnowsQueues|socket.KnowsAcceptQueueLimit)
		o.AcceptQueue, o.AcceptQueueLimit, o.Full = r.Uint64N(9), r.Uint64N(9), r.IntN(3)
	}
	o.Owner = socket.Owner{
		Process: pick(r, "", "nginx", "odd", "redis-server", socket.Kernel), Comm: pick(r, "", "nginx"), PID: r.Int32N(3), User: pick(r, "", "root", "svc"),
		UserID: pick(r, "", "0", "33"), Executable: pick(r, "", "/usr/sbin/nginx"), Unit: pick(r, "", "init.scope", "a.service"),
		Container: pick(r, "", "docker-0123456789ab"), Deleted: r.IntN(2) == 0, Pending: r.IntN(3) == 0,
	}
	return o
}

// endless gives spaces for ever.
type endless struct{}

func (*endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// TestMachineOutputs compares what CI servers and auditors read.
func TestMachineOutputs(t *testing.T) {
	for output, ending := range map[string]string{outputSARIF: ".sarif", outputJUnit: ".xml", outputReport: ".md"} {
		h, file, stdout := saved(t, mixed)
		var exit *ExitError
		if err := Listeners(t.Context(), h, ListenersOptions{Output: output, Input: file}); !errors.As(err, &exit) || exit.Code != 1 {
			t.Errorf("%s: error %v", output, err)
		}
		porttest.Golden(t, filepath.Join("testdata", "mixed"+ending), stdout.String())
		if strings.Contains(stdout.String(), "\x1b") {
			t.Errorf("%s: a name reaches the terminal as it is", output)
		}
		h, file, stdout = saved(t, "policy: {rules: [{name: all}]}")
		if err := Listeners(t.Context(), h, ListenersOptions{Output: output, Input: file}); err != nil {
			t.Errorf("%s: error %v", output, err)
		}
		porttest.Golden(t, filepath.Join("testdata", "well"+ending), stdout.String())
	}
}

// TestSARIFIsSound holds what the schema of SARIF 2.1.0 asks for, and what the
// standard asks for besides: sections 3.19 to 3.27.
func TestSARIFIsSound(t *testing.T) {
	h, file, stdout := saved(t, mixed)
	h.ConfigFile = "/etc/port exporter/ä.yml"
	_ = Listeners(t.Context(), h, ListenersOptions{Output: outputSARIF, Input: file})
	var log sarifLog
	decoder := json.NewDecoder(strings.NewReader(stdout.String()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 {
		t.Fatalf("version %s, %d runs", log.Version, len(log.Runs))
	}
	run := log.Runs[0]
	levels, seen := []string{"error", "warning", "note"}, map[string]bool{}
	for _, r := range run.Results {
		rule := run.Tool.Driver.Rules[r.RuleIndex]
		uri, err := url.Parse(r.Locations[0].Physical.Artifact.URI)
		print := r.Fingerprints["portExporterListener/v1"]
		switch {
		case rule.ID != r.RuleID || rule.Short.Text == "" || rule.Help.Text == "" || !slices.Contains(levels, rule.Configuration.Level):
			t.Errorf("rule %+v of result %+v", rule, r)
		case !slices.Contains(levels, r.Level) || r.Message.Text == "" || r.Locations[0].Physical.Region.StartLine < 1:
			t.Errorf("result %+v", r)
		case err != nil || uri.Path != h.ConfigFile || uri.Scheme != "file" || strings.Contains(r.Locations[0].Physical.Artifact.URI, " "):
			t.Errorf("uri %v: %v", uri, err)
		case seen[print] || len(print) != 64:
			t.Errorf("fingerprint %q stands twice, or is none", print)
		}
		seen[print] = true
	}
	if len(run.Results) != 6 {
		t.Errorf("%d results", len(run.Results))
	}
}

// TestPartialReadIsNoSuccess has sockets that were not read, owners that are pending,
// and a rule about what the host does not report: no output says that all is well.
func TestPartialReadIsNoSuccess(t *testing.T) {
	c, err := config.Parse([]byte("policy: {rules: [{name: all, protocol: [tcp, udp]}, {name: no guests, protocol: vsock, forbid: true}]}"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		read   reading
		status int
		why    string
	}{
		"whole":        {reading{}, 0, ""},
		"partial":      {reading{partial: []socket.Protocol{socket.UDP}}, statusUnverified, "some udp sockets were not read"},
		"pending":      {reading{Result: owner.Result{Pending: 2}}, 0, "the owner of 2 of the listeners was not known"},
		"not reported": {reading{unknown: []socket.Protocol{socket.Vsock}}, statusUnverified, "the host does not report vsock sockets, which rule no guests is about"},
		"no rule asks": {reading{unknown: []socket.Protocol{socket.Packet}}, 0, ""},
	} {
		h := &Command{Config: c, Now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
		j := h.judge(tt.read)
		var sarif, junit, report strings.Builder
		if err := errors.Join(h.writeSARIF(&sarif, "web1", j), h.writeJUnit(&junit, "web1", j), h.writeReport(&report, "web1", j)); err != nil {
			t.Fatal(err)
		}
		whole := tt.why == ""
		for output, ok := range map[string]bool{
			"sarif":  strings.Contains(sarif.String(), fmt.Sprintf(`"executionSuccessful": %t`, whole)) && strings.Contains(sarif.String(), `"toolExecutionNotifications"`) != whole,
			"junit":  strings.Contains(junit.String(), `errors="0"`) == whole,
			"report": strings.Contains(report.String(), "| met |") == whole && strings.Contains(report.String(), "| **not verified** |") != whole,
			"why":    strings.Contains(sarif.String(), tt.why) && strings.Contains(junit.String(), tt.why) && strings.Contains(report.String(), tt.why),
		} {
			if !ok {
				t.Errorf("%s: %s is wrong:\n%s%s%s", name, output, &sarif, &junit, &report)
			}
		}
		var exit *ExitError
		if err := j.verdict(); tt.status == 0 && err != nil || tt.status != 0 && (!errors.As(err, &exit) || exit.Code != tt.status || !strings.Contains(exit.Message, tt.why)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJUnitCounts compares the sums with the cases.
func TestJUnitCounts(t *testing.T) {
	h, file, stdout := saved(t, mixed)
	_ = Listeners(t.Context(), h, ListenersOptions{Output: outputJUnit, Input: file})
	var report junitReport
	if err := xml.Unmarshal([]byte(stdout.String()), &report); err != nil {
		t.Fatal(err)
	}
	suite := report.Suites[0]
	got, names := junitCounts{}, map[string]bool{}
	for _, c := range suite.Cases {
		got.Tests++
		if c.Failure != nil {
			got.Failures++
		}
		if c.Error != nil {
			got.Errors++
		}
		if names[c.Class+c.Name] {
			t.Errorf("%s stands twice", c.Name)
		}
		names[c.Class+c.Name] = true
	}
	if want := (junitCounts{Tests: 10, Failures: 4, Errors: 2}); got != want || suite.junitCounts != want || report.junitCounts != want {
		t.Errorf("%+v, %+v, %+v, want %+v", got, suite.junitCounts, report.junitCounts, want)
	}
}

func TestMarkdownIsEscaped(t *testing.T) {
	got := escapeMarkdown("a|b`c<d>[e](f)_g_*h*\\")
	if want := "a\\|b\\`c\\<d\\>\\[e\\](f)\\_g\\_\\*h\\*\\\\"; got != want {
		t.Errorf("%q", got)
	}
}
