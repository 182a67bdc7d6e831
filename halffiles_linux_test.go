package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// manyTargets is a configuration of n targets that nothing probes on a scrape.
func manyTargets(n int) string {
	var b strings.Builder
	b.WriteString("policy:\n  rules:\n    - {name: a, ports: 1}\n    - {name: b, ports: 2}\ntargets:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {address: '127.0.0.1:%d', interval: 10h}\n", i+1)
	}
	return b.String()
}

// TestReloadOfWhatIsNoFile replaces the configuration by what cannot be read, or
// not to its end, or is cut. Each reload ends with an error, what was in force
// stays so, and when the file is back a reload succeeds.
func TestReloadOfWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yml")
	whole := manyTargets(20)
	put := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	if err := put(whole)(file); err != nil {
		t.Fatal(err)
	}
	base, _ := startDaemon(t, "--config.file="+file, "--web.enable-lifecycle")
	reload := func(what, want string) {
		t.Helper()
		status, body := request(t, http.MethodPost, base+"/-/reload")
		if want == "" && status != 200 || want != "" && (status != 500 || !strings.Contains(body, want)) {
			t.Errorf("%s: %d %s, want %q", what, status, body, want)
		}
		success := map[bool]string{true: "1", false: "0"}[want == ""]
		_, metrics := get(t, base+"/metrics?collect[]=limits")
		for _, line := range []string{"port_config_targets 20\n", "port_config_policy_rules 2\n", "port_config_last_reload_successful " + success + "\n"} {
			if !strings.Contains(metrics, line) {
				t.Errorf("%s: lacks %q", what, line)
			}
		}
	}
	for _, tt := range []struct {
		name string
		put  func(path string) error
		want string
	}{
		{"missing", func(string) error { return nil }, "no such file"},
		{"a pipe without a writer", func(path string) error { return unix.Mkfifo(path, 0o600) }, "it is a pipe, not a regular file"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, "it is a directory"},
		{"without end", func(path string) error { return os.Symlink("/dev/zero", path) }, "it is a device"},
		{"large", func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		}, "it is larger than"},
		{"empty", put(""), "targets: nothing is left of the 20 before"},
		{"a comment", put("# to do\n"), "policy.rules: nothing is left of the 2 before"},
		{"cut", put(whole[:strings.LastIndex(whole, "\n  - {")]), "the file does not end with a line break"},
		{"an included pipe", func(path string) error {
			return put("blackbox_config: " + filepath.Join(dir, "fifo") + "\n" + whole)(path)
		}, "line 1: blackbox_config: "},
	} {
		if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := tt.put(file); err != nil {
			t.Fatal(err)
		}
		reload(tt.name, tt.want)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := put(whole)(file); err != nil {
		t.Fatal(err)
	}
	reload("back", "")
}

// TestDeadMountInNamespace has a configuration on a file system whose server does
// not answer, as NFS does when its host is gone: not even stat(2) comes back. The
// reload ends all the same, so does a start, and what is in force is served.
func TestDeadMountInNamespace(t *testing.T) {
	porttest.Namespace(t)
	privateMounts(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "c.yml"), []byte(manyTargets(3)), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := porttest.StartDaemon(t, "port_exporter", "--config.file="+filepath.Join(dir, "c.yml"), "--web.enable-lifecycle")
	porttest.Scrape(t, "port_config_targets")

	mountDead(t, dir)

	began := time.Now()
	status, body := porttest.Post(t, porttest.ScrapeAddress, "/-/reload")
	if status != 500 || !strings.Contains(body, "timeout") {
		t.Errorf("reload: %d %s", status, body)
	}
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := porttest.Scrape(t, "port_config_")["port_config_targets"]; got != 3 {
		t.Errorf("%v targets are in force", got)
	}
	began = time.Now()
	stop()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it ended after %v", took)
	}
	awaitEndAtSignal(t, "--config.check", "--config.file="+filepath.Join(dir, "c.yml"))
}

// privateMounts gives the test, and what it starts, mounts of its own.
func privateMounts(t *testing.T) {
	t.Helper()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("SKIP-NAMESPACE: unshare(CLONE_NEWNS): %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

// mountDead mounts a file system whose server does not answer, until the function it
// returns is called.
func mountDead(t *testing.T, dir string) (end func()) {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("SKIP-NAMESPACE: /dev/fuse: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device)
	// The daemon has a mount namespace of its own only if it asks for one: it sees this.
	if err := unix.Mount("dead", dir, "fuse", 0, options); err != nil {
		_ = unix.Close(device)
		t.Skipf("SKIP-NAMESPACE: mount fuse: %v", err)
	}
	end = sync.OnceFunc(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = unix.Close(device) // whoever waits gets an error
	})
	t.Cleanup(end)
	return end
}

// TestDeadFilesOfModulesInNamespace has the files of modules on a file system that
// stops answering. Probes with them are not tried, and say why; the others go on, no
// thread is added for each probe, and when the files are back so are the probes.
func TestDeadFilesOfModulesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	privateMounts(t)
	dir, dead := t.TempDir(), t.TempDir()
	for _, name := range []string{"ca", "password", "body"} {
		if err := os.WriteFile(filepath.Join(dead, name), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := "modules:\n  fine: {prober: http}\ntargets:\n  - {address: 'http://127.0.0.1:10065/-/healthy', module: fine}\n"
	modules := map[string]string{
		"password": "{prober: http, http: {basic_auth: {username: u, password_file: DEAD/password}}}",
		"body":     "{prober: http, http: {body_file: DEAD/body}}",
		"header":   "{prober: http, http: {http_headers: {X-Token: {files: [DEAD/password]}}}}",
		"ca":       "{prober: http, http: {tls_config: {ca_file: DEAD/ca}}}",
		"tcp":      "{prober: tcp, tcp: {tls: true, tls_config: {ca_file: DEAD/ca}}}",
		"grpc":     "{prober: grpc, grpc: {tls: true, tls_config: {ca_file: DEAD/ca}}}",
		"dns":      "{prober: dns, dns: {query_name: a, transport_protocol: tcp, dns_over_tls: true, tls_config: {ca_file: DEAD/ca}}}",
	}
	for name, module := range modules {
		text = strings.Replace(text, "targets:\n", "  "+name+": "+strings.ReplaceAll(module, "DEAD", dead)+"\ntargets:\n", 1)
		if !strings.Contains(module, "prober: http") {
			text += "  - {address: '127.0.0.1:10065', module: " + name + "}\n"
			continue
		}
		for i := range 4 {
			text += fmt.Sprintf("  - {address: 'http://127.0.0.1:10065/-/healthy?%d', module: %s}\n", i, name)
		}
	}
	file := filepath.Join(dir, "c.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	porttest.StartDaemon(t, "port_exporter", "--config.file="+file)
	count := func() (fine, tried int, threads float64) {
		samples := porttest.Scrape(t, "probe_success", "go_threads")
		for series, value := range samples {
			switch {
			case series == "go_threads":
				threads = value
			case strings.Contains(series, `module="fine"`):
				fine += int(value)
			default:
				tried++
			}
		}
		return fine, tried, threads
	}
	fine, tried, before := count()
	if fine != 1 || tried == 0 {
		t.Fatalf("before: %d fine, %d tried", fine, tried)
	}
	end := mountDead(t, dead)
	for range 3 {
		fine, tried, threads := count()
		if fine != 1 || tried != 0 {
			t.Errorf("dead: %d fine, %d tried", fine, tried)
		}
		if threads > before+12 { // three files, and what Go adds by itself
			t.Errorf("dead: %v threads, %v before", threads, before)
		}
	}
	if _, body := porttest.Get(t, porttest.ScrapeAddress, "/probe?module=password&target="+url.QueryEscape("http://127.0.0.1:10065/-/healthy?0")+"&debug=true"); !strings.Contains(body, "file system timeout") {
		t.Errorf("it is not said why:\n%s", body)
	}
	end()
	porttest.Await(t, "the files to be back", func() bool {
		fine, tried, _ := count()
		return fine == 1 && tried > 0
	})
}

// TestStartEndsAtFirstSignal has configurations that never come to an end, and
// one SIGTERM.
func TestStartEndsAtFirstSignal(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--config.file=" + fifo}, {"--config.check", "--config.file=" + fifo}, {"listeners", "--config.file=" + fifo}, {"baseline", "--merge=" + fifo},
	} {
		awaitEndAtSignal(t, args...)
	}
}

// TestStartWithWhatIsNoFile starts with pipes and files without end in the place of
// each file that a flag or a configuration names: it ends with an error that names
// them.
func TestStartWithWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo, including := filepath.Join(dir, "fifo"), filepath.Join(dir, "c.yml")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(including, []byte("blackbox_config: fifo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--web.config.file=" + fifo}, fifo + ": it is a pipe, not a regular file"},
		{[]string{"--web.config.file=/dev/zero"}, "/dev/zero: it is a device, not a regular file"},
		{[]string{"--config.check", "--web.config.file=" + fifo}, fifo + ": it is a pipe, not a regular file"},
		{[]string{"--config.file=" + including}, "blackbox_config: read " + fifo + ": it is a pipe"},
		{[]string{"--config.check", "--config.file=" + including}, "blackbox_config: read " + fifo + ": it is a pipe"},
		{[]string{"listeners", "--config.file=" + including}, "blackbox_config: read " + fifo + ": it is a pipe"},
		{[]string{"--config.file=/dev/zero"}, "/dev/zero: it is larger than"},
		{[]string{"listeners", "--input=/dev/zero"}, "it is larger than"},
		{[]string{"baseline", "--merge=/dev/zero"}, "/dev/zero: it is larger than"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out, err := exec.CommandContext(ctx, "port_exporter", append(tt.args, "--web.listen-address=127.0.0.1:0")...).CombinedOutput()
		if err == nil || ctx.Err() != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%v: %v, want %q:\n%s", tt.args, err, tt.want, out)
		}
		cancel()
	}
}

// awaitEndAtSignal starts the program, which must wait for its files, and sends it
// one SIGTERM.
func awaitEndAtSignal(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("port_exporter", append(args, "--web.listen-address=127.0.0.1:0")...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// It catches signals from its first line on.
	porttest.Await(t, "the program to catch signals", func() bool {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		_, caught, _ := strings.Cut(string(status), "SigCgt:\t")
		var mask uint64
		_, _ = fmt.Sscanf(caught, "%x", &mask)
		return mask&(1<<(syscall.SIGTERM-1)) != 0
	})
	select {
	case err := <-ended:
		t.Fatalf("%v ended by itself: %v\n%s", args, err, &output)
	case <-time.After(time.Second):
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
		t.Errorf("%v: one SIGTERM does not end it", args)
	}
}

// TestHalfWrittenConfiguration writes the file as most tools do, and reloads all
// the while: each scrape sees all targets.
func TestHalfWrittenConfiguration(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "c.yml")
	whole := manyTargets(300)
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	base, log := startDaemon(t, "--config.file="+file, "--web.enable-lifecycle")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for round := 0; ctx.Err() == nil; round++ {
			f, err := os.Create(file)
			if err != nil {
				return
			}
			for part := range strings.SplitSeq(whole, "8") {
				_, _ = io.WriteString(f, part+"8")
				time.Sleep(time.Millisecond)
			}
			_ = f.Truncate(int64(len(whole)))
			_ = f.Close()
			if round%3 == 2 { // now and then it is left alone
				select {
				case <-time.After(3 * time.Second):
				case <-ctx.Done():
				}
			}
		}
	}()
	defer func() { cancel(); <-ended }()
	for until := time.Now().Add(8 * time.Second); time.Now().Before(until); {
		_ = syscall.Kill(os.Getpid(), syscall.SIGHUP)
		if _, body := get(t, base+"/metrics?collect[]=limits"); !strings.Contains(body, "port_config_targets 300\n") || !strings.Contains(body, "port_config_policy_rules 2\n") {
			t.Fatalf("targets are missing:\n%s", body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	porttest.Await(t, "a reload that succeeds", func() bool { return strings.Contains(log.String(), "configuration reloaded") })
}
