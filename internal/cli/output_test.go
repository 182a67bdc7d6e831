package cli

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/porttest"
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
func saved(t *testing.T, policy string) (h *Host, file string, stdout *strings.Builder) {
	t.Helper()
	from, text, _ := host(t, "")
	if err := Listeners(t.Context(), from, ListenersOptions{Output: JSON}); err != nil {
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
	return &Host{
		Config: c, ConfigFile: "ci/ports policy.yml", Stdout: stdout, Stderr: &strings.Builder{}, Version: "0.1.0",
		Now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC),
	}, file, stdout
}

// TestInput holds that a saved table gets the verdicts that the host itself does.
func TestInput(t *testing.T) {
	there, want, _ := host(t, mixed)
	wantErr := Listeners(t.Context(), there, ListenersOptions{Output: JSON})
	h, file, got := saved(t, mixed)
	err := Listeners(t.Context(), h, ListenersOptions{Output: JSON, Input: file})
	rows := func(text string) (rows []row) { // bytes that are no UTF-8 are the same mark in two forms
		if err := json.Unmarshal([]byte(text), &rows); err != nil {
			t.Fatal(err)
		}
		return rows
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
	if err := Listeners(t.Context(), h, ListenersOptions{Output: Table, Input: "-"}); err == nil || !strings.Contains(got.String(), "expected: web") {
		t.Errorf("standard input: %v\n%s", err, got)
	}
}

func TestBadInput(t *testing.T) {
	h, _, _ := saved(t, mixed)
	const whole = `"protocol": "tcp", "address": "10.0.0.1", "port": 80`
	for text, want := range map[string]string{
		"":                                  "unexpected end of JSON input",
		"{}":                                "cannot unmarshal object",
		"null":                              "it holds no list of listeners",
		`[{` + whole + `}, {"port": 80}]`:   `element 1: protocol: "" is not known`,
		`[{"protocol": "tcp"}]`:             "element 0: address: ",
		`[{"protocol": "tcp", "port": -1}]`: "cannot unmarshal number -1",
		`[{"protocol": "tcp", "address": "10.0.0.1"}]`: "element 0: port: it is missing",
		`[{` + whole + `, "scope": "world"}]`:          `element 0: scope: "world" is not known`,
	} {
		h.Stdin = strings.NewReader(text)
		err := Listeners(t.Context(), h, ListenersOptions{Input: "-"})
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != 2 || !strings.Contains(exit.Message, want) || !strings.Contains(exit.Message, "--input=-: ") || !strings.Contains(exit.Message, "hint: ") {
			t.Errorf("%s: %+v", text, err)
		}
	}
	for _, o := range []ListenersOptions{{Output: SARIF}, {Output: JUnit}, {Output: Report}} {
		plain, _, _ := saved(t, "")
		if err := Listeners(t.Context(), plain, o); err == nil || !strings.Contains(err.Error(), "--output="+o.Output+": no policy is configured") {
			t.Errorf("%s: %v", o.Output, err)
		}
	}
	h.Stdin = strings.NewReader(`[{` + whole + `}, {"protocol": "tcp", "address": "::", "port": 23}]`) // the rest may be left out
	if err := Listeners(t.Context(), h, ListenersOptions{Input: "-"}); err == nil || !strings.HasPrefix(err.Error(), "1 unexpected\n1 unverified") {
		t.Errorf("the least that a listener can be: %v", err)
	}
	if _, err := parseTable(&endless{}); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("an endless file: %v", err)
	}
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
	for output, ending := range map[string]string{SARIF: ".sarif", JUnit: ".xml", Report: ".md"} {
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
	_ = Listeners(t.Context(), h, ListenersOptions{Output: SARIF, Input: file})
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

// TestJUnitCounts holds the sums to the cases.
func TestJUnitCounts(t *testing.T) {
	h, file, stdout := saved(t, mixed)
	_ = Listeners(t.Context(), h, ListenersOptions{Output: JUnit, Input: file})
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
