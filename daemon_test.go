package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/cli"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

// startDaemon runs the program on a free port until the test ends, and returns
// where it listens and what it logs. It must end without an error.
func startDaemon(t *testing.T, args ...string) (base string, log *porttest.Log) {
	t.Helper()
	log = &porttest.Log{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- cli.Run(ctx, append([]string{"--web.listen-address=127.0.0.1:0"}, args...), io.Discard, log)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
	})
	return "http://" + awaitAddress(t, log), log
}

// listening is the line of the log with an address on which the program listens.
var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// awaitAddress waits until the program listens, and returns the first address.
func awaitAddress(t *testing.T, log *porttest.Log) string {
	t.Helper()
	porttest.Await(t, "the program to listen", func() bool { return listening.MatchString(log.String()) })
	return listening.FindStringSubmatch(log.String())[1]
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return request(t, http.MethodGet, url)
}

func request(t *testing.T, method, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestDefaultsServeEverything(t *testing.T) {
	base, log := startDaemon(t)
	status, body := get(t, base+"/metrics")
	port := base[strings.LastIndex(base, ":")+1:]
	for _, want := range []string{
		"port_exporter_build_info{", "go_goroutines ", "port_config_last_reload_successful 1\n", "port_source_info{",
		`port_scrape_collector_success{collector="connections"} 1`,
		`port_listener_sockets{address="127.0.0.1",interface="",netns="",port="` + port + `",protocol="tcp"} 1`,
	} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("status %d, lacks %q", status, want)
		}
	}
	if status, body := get(t, base+"/metrics?collect[]=nope"); status != 400 || !strings.Contains(body, `"nope"`) {
		t.Errorf("an unknown collector: %d %s", status, body)
	}
	if status, _ := get(t, base+"/-/healthy"); status != 200 {
		t.Errorf("after bad input the daemon is not healthy: %d", status)
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("logged an error:\n%s", log)
	}
}

// TestHelpOfTheProcess compares the HELP texts that a daemon serves with
// docs/metrics.md.
func TestHelpOfTheProcess(t *testing.T) {
	web := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(web, []byte("basic_auth_users: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base, _ := startDaemon(t, "--web.config.file="+web)
	document, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body := get(t, base+"/metrics")
	helps := regexp.MustCompile(`(?m)^# HELP (port_[a-z_]+) (.*)$`).FindAllStringSubmatch(body, -1)
	if len(helps) == 0 {
		t.Fatal("no HELP text")
	}
	for _, m := range helps {
		if m[1] == "port_exporter_build_info" { // the library's
			continue
		}
		row := regexp.MustCompile("(?m)^\\| `" + m[1] + "` \\|.*\\| " + regexp.QuoteMeta(m[2]))
		if faults := porttest.HelpFaults(m[2]); len(faults) > 0 || !row.Match(document) {
			t.Errorf("%s: %q: faults %v, in docs/metrics.md: %v", m[1], m[2], faults, row.Match(document))
		}
	}
}

func TestFlagsNarrow(t *testing.T) {
	base, _ := startDaemon(t, "--web.disable-exporter-metrics", "--no-collector.connections", "--web.telemetry-path=/m", "--web.route-prefix=/ports")
	_, body := get(t, base+"/ports/m")
	for _, not := range []string{"go_goroutines", "process_", "port_inbound_connections{", `collector="connections"`} {
		if strings.Contains(body, not) {
			t.Errorf("%s is there", not)
		}
	}
	if !strings.Contains(body, "port_exporter_build_info{") {
		t.Error("no build info")
	}
}

func TestEverySourceServes(t *testing.T) {
	for _, source := range []string{"procfs", "gopsutil"} {
		base, _ := startDaemon(t, "--source="+source)
		_, body := get(t, base+"/metrics")
		port := base[strings.LastIndex(base, ":")+1:]
		for _, want := range []string{
			`port_source_info{reason="",source="` + source + `"} 1`,
			`port_listener_sockets{address="127.0.0.1",interface="",netns="",port="` + port + `",protocol="tcp"} 1`,
			`port_scrape_collector_success{collector="connections"} 1`,
		} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: lacks %s", source, want)
			}
		}
	}
}

func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("limits: {outbound_ports: 1}\n")
	base, _ := startDaemon(t, "--config.file="+file, "--web.enable-lifecycle")
	inForce := func(want, success string) {
		t.Helper()
		if _, body := get(t, base+"/config"); !strings.Contains(body, want) {
			t.Errorf("in force is\n%swant %s", body, want)
		}
		if _, body := get(t, base+"/metrics"); !strings.Contains(body, "port_config_last_reload_successful "+success+"\n") {
			t.Errorf("the last reload is not told as %s", success)
		}
	}
	inForce("outbound_ports: 1\n", "1")

	write("limits: {outbound_ports: -1}\n")
	if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 500 || !strings.Contains(body, file+": line 1: limits.outbound_ports: -1 is out of range") {
		t.Errorf("a bad file: %d %s", status, body)
	}
	inForce("outbound_ports: 1\n", "0")

	write("limits: {outbound_ports: 2}\n")
	if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 200 {
		t.Errorf("a good file: %d %s", status, body)
	}
	inForce("outbound_ports: 2\n", "1")
}

// TestReloadThatShrinks reloads a valid file that lost some of its targets: in the
// log is how many there were, and a reload that loses nothing adds no such line.
func TestReloadThatShrinks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	write := func(targets int) {
		t.Helper()
		text := "targets:\n"
		for i := range targets {
			text += fmt.Sprintf("  - {address: '127.0.0.1:%d', interval: 10h}\n", i+1)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(5)
	base, log := startDaemon(t, "--config.file="+file, "--web.enable-lifecycle")
	const shrunk = `msg="new configuration has fewer items than the previous one"`
	for i, step := range []struct {
		targets, warnings int
	}{{5, 0}, {6, 0}, {2, 1}, {2, 1}, {3, 1}} {
		write(step.targets)
		if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 200 {
			t.Fatalf("%d targets: %d %s", step.targets, status, body)
		}
		porttest.Await(t, "the last line of the reload", func() bool { return strings.Count(log.String(), `msg="configuration reloaded"`) > i })
		if got := strings.Count(log.String(), shrunk); got != step.warnings {
			t.Errorf("%d targets: %d warnings, want %d:\n%s", step.targets, got, step.warnings, log)
		}
	}
	if want := shrunk + " key=targets before=6 now=2\n"; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, log)
	}
}

// TestReloadThatLacksKeys puts a configuration in force in which a rule has lost a key,
// with a warning, and none of the same that ends within a line.
func TestReloadThatLacksKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	const cut = "policy:\n  rules:\n    - name: a\n      ports: 22"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(cut + "\n      process: sshd\n")
	base, log := startDaemon(t, "--config.file="+file, "--web.enable-lifecycle")
	write(cut)
	if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 500 || !strings.Contains(body, "does not end with a line break") {
		t.Errorf("cut in a line: %d %s", status, body)
	}
	write(cut + "\n")
	if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 200 {
		t.Errorf("cut between lines: %d %s", status, body)
	}
	porttest.Await(t, "the warning", func() bool {
		return strings.Contains(log.String(), `level=WARN`) && strings.Contains(log.String(), `msg="new configuration lacks keys of the previous one" count=1 keys=policy.rules[0].process`)
	})
}

// TestReloadWithoutItsFiles keeps a configuration that works when the new one
// names a file that a target needs and that is not there.
func TestReloadWithoutItsFiles(t *testing.T) {
	dir := t.TempDir()
	file, ca := filepath.Join(dir, "c.yml"), filepath.Join(dir, "ca.pem")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const target = "targets: [{address: '127.0.0.1:1', module: m}]\n"
	write(file, "modules: {m: {prober: tcp}}\n"+target)
	base, _ := startDaemon(t, "--config.file="+file, "--web.enable-lifecycle")
	write(file, "modules:\n  m: {prober: tcp, tcp: {tls: true, tls_config: {ca_file: "+ca+"}}}\n"+target)
	if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 500 || !strings.Contains(body, file+": line 2: modules.m.tcp.tls_config.ca_file: ") || !strings.Contains(body, "hint: ") {
		t.Errorf("without the file: %d %s", status, body)
	}
	if _, body := get(t, base+"/metrics"); !strings.Contains(body, "port_config_last_reload_successful 0\n") || !strings.Contains(body, "reason=\"refused\"") {
		t.Errorf("the target is not probed as before:\n%s", body)
	}
	write(ca, "")
	if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 200 {
		t.Errorf("with the file: %d %s", status, body)
	}
}

func TestTLSAndBasicAuth(t *testing.T) {
	dir := t.TempDir()
	certificate := porttest.SelfSigned(t)
	porttest.WritePEM(t, filepath.Join(dir, "pem"), certificate)
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Leaf)
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	webConfig := filepath.Join(dir, "web.yml")
	text := "tls_server_config: {cert_file: pem, key_file: pem}\nbasic_auth_users: {prometheus: " + string(hash) + "}\n"
	if err := os.WriteFile(webConfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	base, log := startDaemon(t, "--web.config.file="+webConfig)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for password, want := range map[string]int{"": 401, "wrong": 401, "s3cret": 200} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(base, "http:", "https:", 1)+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("prometheus", password)
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("with the password %q: status %d, want %d", password, response.StatusCode, want)
		}
	}
	if strings.Contains(log.String(), "s3cret") || strings.Contains(log.String(), string(hash)) {
		t.Error("the log has a secret")
	}
}

// TestWebConfigInForce breaks the web configuration: the metrics say so until it is
// mended, and there are none without one.
func TestWebConfigInForce(t *testing.T) {
	const family = "port_web_config_last_reload_success"
	base, _ := startDaemon(t)
	if _, body := get(t, base+"/metrics?collect[]=limits"); strings.Contains(body, family) {
		t.Errorf("without a web configuration there is %s", family)
	}
	file := filepath.Join(t.TempDir(), "web.yml")
	write := func(text string) {
		t.Helper()
		_ = os.Remove(file)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("basic_auth_users: {}\n")
	base, _ = startDaemon(t, "--web.config.file="+file)
	for _, step := range []struct{ text, want string }{
		{"basic_auth_users: {}\n", "1"}, {"basic_auth_users: {a: plain}\n", "0"}, {"basic_auth_users: {}\n", "1"},
	} {
		write(step.text)
		porttest.Await(t, "the metric to be "+step.want, func() bool {
			_, body := get(t, base+"/metrics?collect[]=limits")
			return strings.Contains(body, family+"ful "+step.want+"\n") && strings.Contains(body, family+"_timestamp_seconds 1")
		})
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	who := "another process"
	if runtime.GOOS == "linux" {
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		who = filepath.Base(program)
	}
	for _, address := range []string{"127.0.0.1:" + port, ":" + port} {
		err := cli.Run(t.Context(), []string{"--web.listen-address=" + address}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "hint: "+who) {
			t.Errorf("error %v, want %s", err, who)
		}
	}
}

func TestSeveralAddresses(t *testing.T) {
	_, log := startDaemon(t, "--web.listen-address=127.0.0.2:0")
	porttest.Await(t, "two listeners", func() bool { return strings.Count(log.String(), `msg="Listening on"`) == 2 })
	for _, m := range listening.FindAllStringSubmatch(log.String(), -1) {
		if status, _ := get(t, "http://"+m[1]+"/-/ready"); status != 200 {
			t.Errorf("%s: status %d", m[1], status)
		}
	}
}

// TestStatusOfUsageErrors keeps a mistyped flag of a command from being taken
// for a finding.
func TestStatusOfUsageErrors(t *testing.T) {
	for args, want := range map[string]int{
		"listeners --output=xml": 2, "listeners --bogus": 2, "baseline --bogus": 2, "listeners --unexpected": 2, "--bogus": 1,
		"check": 2, "check ::1": 2, "check :0": 2, "check 127.0.0.1:": 2, "check 127.0.0.1:70000": 2, "check a:1 --module=x": 2, "check --bogus a:1": 2,
		"check 127.0.0.1:1": 1,
	} {
		err := cli.Run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if err == nil {
			t.Errorf("%s: no error", args)
		} else if got := cli.Status(t.Context(), io.Discard, err); got != want {
			t.Errorf("%s: status %d, want %d", args, got, want)
		}
	}
}

// TestUnlimitedScrapesAreWhole has many concurrent scrapes and no limit: each is whole, or
// a 503.
func TestUnlimitedScrapesAreWhole(t *testing.T) {
	base, log := startDaemon(t, "--web.max-requests=0")
	var scrapes sync.WaitGroup
	var whole atomic.Int64
	unasked := append(collector.OffByDefault(), "policy", "probes", "certificates") // without a section of the configuration
	for range 150 {                                                                 // fewer than there may be connections, at 1024 descriptors
		scrapes.Go(func() {
			response, err := http.Get(base + "/metrics")
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if response.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), "hint: ") {
				return
			}
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("status %d, %v", response.StatusCode, err)
			}
			for _, name := range collector.Names() {
				if !strings.Contains(string(body), `port_scrape_collector_success{collector="`+name+`"} `) && !slices.Contains(unasked, name) {
					t.Errorf("lacks %s", name)
				}
			}
			whole.Add(1)
		})
	}
	scrapes.Wait()
	if whole.Load() == 0 {
		t.Error("no scrape is whole")
	}
	if n := strings.Count(log.String(), "\n"); n > 100 {
		t.Errorf("%d lines were logged", n)
	}
	t.Logf("%d of 150 are whole", whole.Load())
}
