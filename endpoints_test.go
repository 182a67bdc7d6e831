package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuiltInModuleOnRequest has the modules of the configuration stand in the way
// of the built-in ones, except of that which a rule names.
func TestBuiltInModuleOnRequest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	text := "modules:\n  mine: {prober: tcp}\nprobes:\n  allow:\n    rules: [{networks: 127.0.0.0/8, modules: [mine, tcp_connect]}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	base, _ := startDaemon(t, "--config.file="+file)
	for module, want := range map[string]struct {
		status int
		said   string
	}{
		"http_2xx":    {403, "hint: add a rule to probes.allow that does: modules: [http_2xx]"},
		"nonsense":    {400, `unknown module "nonsense"`},
		"tcp_connect": {200, "probe_outcome_code 1\n"},
		"mine":        {200, "probe_outcome_code 1\n"},
	} {
		if status, body := get(t, base+"/probe?target=127.0.0.1:1&module="+module); status != want.status || !strings.Contains(body, want.said) {
			t.Errorf("%s: %d %s, want %d with %q", module, status, body, want.status, want.said)
		}
	}
}

// TestExclude leaves collectors out for one request, as node_exporter does.
func TestExclude(t *testing.T) {
	base, _ := startDaemon(t, "--no-collector.limits")
	if status, body := get(t, base+"/metrics?collect[]=sockets&exclude[]=listeners"); status != 400 || !strings.Contains(body, "cannot be combined") {
		t.Errorf("both ways: %d %s", status, body)
	}
	status, body := get(t, base+"/metrics?exclude[]=connections&exclude[]=ephemeral&exclude[]=of_another_version")
	for name, want := range map[string]bool{"sockets": true, "listeners": true, "connections": false, "ephemeral": false, "limits": false} {
		if got := strings.Contains(body, `port_scrape_collector_success{collector="`+name+`"} 1`); status != 200 || got != want {
			t.Errorf("status %d, %s: %v, want %v", status, name, got, want)
		}
	}
}

// TestHandlerMetrics has the metrics of the handler count what it answered.
func TestHandlerMetrics(t *testing.T) {
	base, _ := startDaemon(t)
	get(t, base+"/metrics?collect[]=nonsense")
	get(t, base+"/-/healthy")
	get(t, base+"/metrics?collect[]=sockets")
	_, body := get(t, base+"/metrics?collect[]=sockets")
	for _, want := range []string{
		`promhttp_metric_handler_requests_total{code="200"} 1`, `promhttp_metric_handler_requests_total{code="400"} 1`,
		`promhttp_metric_handler_requests_total{code="503"} 0`, "promhttp_metric_handler_requests_in_flight 1",
		`promhttp_metric_handler_errors_total{cause="gathering"} 0`, `promhttp_metric_handler_errors_total{cause="encoding"} 0`,
	} {
		if !strings.Contains(body, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	base, _ = startDaemon(t, "--web.disable-exporter-metrics")
	if _, body := get(t, base+"/metrics"); strings.Contains(body, "promhttp_") || !strings.Contains(body, "port_exporter_build_info{") {
		t.Error("--web.disable-exporter-metrics does not leave the metrics of the handler out, or leaves the build out too")
	}
}

// TestOutputThatCannotBeWritten writes the output of every command to a device that
// is full.
func TestOutputThatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("SKIP-FULL: %v", err)
	}
	defer full.Close()
	for _, args := range [][]string{
		{"--help"}, {"--help-long"}, {"--help-man"}, {"listeners", "--help"}, {"help"},
		{"--version"}, {"listeners", "--version"}, {"--completion-script-bash"}, {"--completion-script-zsh"},
		{"listeners"}, {"listeners", "--output=json"}, {"listeners", "--output=csv"}, {"baseline"}, {"--config.check"},
		{"check", "127.0.0.1:1"},
	} {
		var stderr strings.Builder
		cmd := exec.Command("port_exporter", args...)
		cmd.Stdout, cmd.Stderr = full, &stderr
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 1 && code != 2 || strings.Contains(stderr.String(), "goroutine") || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: status %d:\n%s", args, code, stderr.String())
		}
	}
}
