package rival

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

const (
	module  = "github.com/prometheus/blackbox_exporter"
	version = "v0.28.0"
)

// contest is one probe that both make.
type contest struct {
	name     string // of the case, and of its module
	module   string // YAML below prober and timeout
	prober   string
	target   string
	hostname string
	// stranger says that the target is not in our configuration, which takes none
	// with a password, for one.
	stranger bool
	timeout  string // of the module; 10s if it is empty
	// vanishes is a file that is there when the module is loaded, and not any more
	// when it is used.
	vanishes string
}

// program is an exporter that runs.
type program struct{ url string }

// build compiles the program of a folder.
func build(t *testing.T, dir, name string, env ...string) (path string, err error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append(env, "GOWORK=off")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
}

// blackbox returns the binary of blackbox_exporter, of which a copy is kept in the
// cache of the user: its module has dependencies of its own.
func blackbox(t *testing.T) string {
	t.Helper()
	var kept string
	if cache, err := os.UserCacheDir(); err == nil {
		kept = filepath.Join(cache, "port_exporter-tests", "blackbox_exporter-"+version+"-"+runtime.Version())
		if _, err := os.Stat(kept); err == nil {
			return kept
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Skipf("SKIP-BLACKBOX: no go command: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "blackbox_exporter")
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(out)))); err != nil {
		t.Fatal(err)
	}
	built, err := build(t, dir, "blackbox_exporter", "GOFLAGS=-mod=mod")
	if err != nil {
		t.Skipf("SKIP-BLACKBOX: it cannot be built here: %v", err)
	}
	keep(built, kept)
	return built
}

// keep copies a binary, if it can.
func keep(built, kept string) {
	text, err := os.ReadFile(built)
	if err != nil || kept == "" || os.MkdirAll(filepath.Dir(kept), 0o755) != nil {
		return
	}
	partial := fmt.Sprintf("%s.%d", kept, os.Getpid())
	if os.WriteFile(partial, text, 0o755) == nil {
		_ = os.Rename(partial, kept)
	}
}

// launch starts a program on a port of its own, and waits until it answers.
func launch(t *testing.T, env []string, path string, args ...string) program {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	var output bytes.Buffer
	cmd := exec.Command(path, append(args, "--web.listen-address="+address)...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), output.Bytes()[:min(output.Len(), 4000)])
		}
	})
	p := program{"http://" + address}
	for range 600 {
		if resp, err := http.Get(p.url + "/-/healthy"); err == nil {
			_ = resp.Body.Close()
			return p
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not answer", path)
	return program{}
}

// modules writes the modules of all cases as blackbox_exporter reads them.
func modules(t *testing.T, cases []contest) string {
	t.Helper()
	all := map[string]yaml.Node{}
	for _, c := range cases {
		text := fmt.Sprintf("prober: %s\ntimeout: %s\n%s: %s\n", c.prober, orElse(c.timeout, "10s"), c.prober, orElse(c.module, "{}"))
		var node yaml.Node
		if err := yaml.Unmarshal([]byte(text), &node); err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, text)
		}
		if _, twice := all[c.name]; twice {
			t.Fatalf("two cases are called %s", c.name)
		}
		all[c.name] = *node.Content[0]
	}
	return writeYAML(t, "blackbox.yml", map[string]any{"modules": all})
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// configuration writes ours: the same modules, and the targets.
func configuration(t *testing.T, modules string, cases []contest) string {
	t.Helper()
	var targets []map[string]string
	var names []string
	for _, c := range cases {
		names = append(names, c.name)
		if c.stranger {
			continue
		}
		target := map[string]string{"address": c.target, "module": c.name, "name": c.name}
		if c.hostname != "" {
			target["hostname"] = c.hostname
		}
		targets = append(targets, target)
	}
	return writeYAML(t, "port_exporter.yml", map[string]any{
		"blackbox_config": modules,
		"targets":         targets,
		"probes": map[string]any{"allow": map[string]any{"rules": []map[string]any{{
			"hosts": []string{"*"}, "networks": []string{"127.0.0.0/8", "::1/128"}, "modules": names,
		}}}},
	})
}

func writeYAML(t *testing.T, name string, value any) string {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// probe asks a program, and returns the families of its answer.
func (p program) probe(t *testing.T, c contest) map[string]*dto.MetricFamily {
	t.Helper()
	query := url.Values{"module": {c.name}, "target": {c.target}}
	if c.hostname != "" {
		query.Set("hostname", c.hostname)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/probe?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "30")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%s: status %d, %v: %s", p.url, response.StatusCode, err, text)
		return nil
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Errorf("%s: %v", p.url, err)
	}
	return families
}

// series returns the measurements of some families, without times.
func series(families map[string]*dto.MetricFamily, known map[string]bool) map[string]string {
	out := map[string]string{}
	for name, f := range families {
		if !known[name] {
			continue
		}
		out["# "+name] = f.GetType().String() + " " + f.GetHelp()
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			slices.Sort(labels)
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			if v := valueOf(name, m); v != noChain {
				out[key] = v
			}
		}
	}
	return out
}

// noChain is what blackbox_exporter has for the expiry of a chain that was not
// verified: the year 1. Here there is none.
const noChain = "-6.21355968e+10"

func valueOf(name string, m *dto.Metric) string {
	value := m.GetGauge().GetValue()
	if m.GetUntyped() != nil {
		value = m.GetUntyped().GetValue()
	}
	if strings.HasSuffix(name, "_seconds") && !strings.HasSuffix(name, "_timestamp_seconds") {
		return "some time"
	}
	return fmt.Sprint(value)
}

// differences names what the two measured otherwise, family by family.
func differences(theirs, ours map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(union(theirs, ours))) {
		if theirs[key] == ours[key] || strings.HasPrefix(key, "# ") && (theirs[key] == "" || ours[key] == "") {
			continue
		}
		name, _, _ := strings.Cut(key, "{")
		if phase, ok := strings.CutPrefix(key, "probe_http_duration_seconds"); ok {
			name += phase
		}
		out = append(out, fmt.Sprintf("%s %s→%s", name, short(theirs[key]), short(ours[key])))
	}
	return strings.Join(slices.Compact(out), ", ")
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// short leaves out values that are another at each run.
func short(value string) string {
	switch {
	case value == "":
		return "absent"
	case len(value) > 6:
		return "present"
	default:
		return value
	}
}

// compare runs all cases with both, and compares the differences with the document.
func compare(t *testing.T, env []string, cases []contest) {
	t.Helper()
	file := modules(t, cases)
	theirs := launch(t, env, blackbox(t), "--config.file="+file)
	path, err := build(t, "../..", "port_exporter")
	if err != nil {
		t.Fatal(err)
	}
	ours := launch(t, env, path, "--config.file="+configuration(t, file, cases))
	listed := document(t)
	for _, c := range cases {
		_ = os.Remove(c.vanishes)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			families := theirs.probe(t, c)
			known := knownFamilies()
			for name := range families {
				known[name] = true
			}
			got := differences(series(families, known), series(ours.probe(t, c), known))
			want := listed[c.name]
			delete(listed, c.name)
			if got != want {
				t.Errorf("blackbox_exporter → port_exporter:\n%s\nand the document has\n%s", got, want)
			}
		})
	}
	for name := range listed {
		t.Errorf("the document lists the case %q, and there is none", name)
	}
}

// knownFamilies are those of blackbox_exporter that not every probe has.
func knownFamilies() map[string]bool {
	known := map[string]bool{}
	for _, name := range []string{
		"probe_ssl_last_chain_expiry_timestamp_seconds", "probe_ssl_earliest_cert_expiry", "probe_ssl_last_chain_info",
		"probe_tls_version_info", "probe_tls_cipher_info", "probe_http_last_modified_timestamp_seconds", "probe_failed_due_to_cel",
		"probe_failed_due_to_regex", "probe_dns_lookup_time_seconds", "probe_ip_protocol", "probe_ip_addr_hash",
	} {
		known[name] = true
	}
	return known
}

// document reads the list of differences: | `case` | difference | reason |.
func document(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/migrating-from-blackbox_exporter.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(text), "\n## Measured side by side\n")
	if !found {
		t.Fatal("the document has no list of differences")
	}
	list, _, _ = strings.Cut(list, "\n## ")
	out := map[string]string{}
	for line := range strings.Lines(list) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		name, ok := strings.CutPrefix(cells[0], "| `")
		if !ok || len(cells) != 3 {
			continue
		}
		out[strings.TrimSuffix(name, "`")] = strings.ReplaceAll(cells[1], "`", "")
	}
	return out
}
