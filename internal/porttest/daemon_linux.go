package porttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ScrapeAddress is where the exporter listens inside a test's namespace.
const ScrapeAddress = "127.0.0.1:10065"

// StartDaemon starts a command, which ends in the program and its flags, in the test's
// namespace. Its socket is passed as systemd does it (sd_listen_fds(3)), so that the first
// request can be sent immediately: it waits in the accept queue.
func StartDaemon(t testing.TB, command ...string) (stop func()) {
	t.Helper()
	return StartDaemonAs(t, &syscall.SysProcAttr{}, command...)
}

// StartDaemonAs is StartDaemon for another user.
func StartDaemonAs(t testing.TB, as *syscall.SysProcAttr, command ...string) (stop func()) {
	t.Helper()
	listener := Listen(t, ScrapeAddress, 128)
	file := os.NewFile(uintptr(Dup(t, listener)), "listener")
	Close(t, listener)
	// LISTEN_PID must be the daemon's own, which only the daemon's process knows.
	args := append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" --web.systemd-socket`, "sh"}, command...)
	defer file.Close()
	cmd := exec.Command("sh", args...)
	cmd.SysProcAttr, cmd.ExtraFiles = as, []*os.File{file}
	return Start(t, cmd)
}

// OpenProgram lets nobody run the commands of the test, and returns where they
// are.
func OpenProgram(t testing.TB) (dir string) {
	t.Helper()
	program, err := exec.LookPath("port_exporter")
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Dir(program)
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// EndedAs runs a program to its end.
func EndedAs(t testing.TB, as *syscall.SysProcAttr, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var out, said bytes.Buffer
	cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = as, &out, &said
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

// OwnName is the process name of the test, which a debugger or go test -c -o may
// have chosen.
func OwnName(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path)
}

// Scrape returns the samples of a Scrape by series, those of the families that
// begin with one of the prefixes.
func Scrape(t testing.TB, prefixes ...string) map[string]float64 {
	t.Helper()
	status, body := Get(t, ScrapeAddress, "/metrics")
	if status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(body) {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) }) {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		series := strings.NewReplacer(`interface="",`, "", `netns="",`, "").Replace(line[:at])
		samples[regexp.MustCompile(`(unit|container)="[^"]*"`).ReplaceAllString(series, `$1=""`)] = value // those of the machine
	}
	return samples
}

// NonZero drops the samples of value zero, and returns the rest.
func NonZero(samples map[string]float64) map[string]float64 {
	for series, value := range samples {
		if value == 0 {
			delete(samples, series)
		}
	}
	return samples
}

// Prometheus starts a Prometheus in the test's namespace, and returns where it
// answers. Without one the test is skipped.
func Prometheus(t testing.TB, config string) (api string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	api = "127.0.0.1:9090"
	Start(t, exec.Command(Program(t, "SKIP-PROMETHEUS", "prometheus"), "--config.file="+file,
		"--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+api, "--log.level=warn"))
	return api
}

// AwaitAnswer asks a Prometheus until it answers what is wanted.
func AwaitAnswer(t testing.TB, api, query, want string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got = instantQuery(api, query); got == want {
			return
		}
	}
	t.Errorf("%s is %q, want %q", query, got, want)
}

// instantQuery returns the value of the only sample of a query, else what was
// answered.
func instantQuery(api, query string) string {
	_, body, err := TryGet(api, "/api/v1/query?query="+url.QueryEscape(query))
	if err != nil {
		return err.Error()
	}
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Data.Result) != 1 {
		return body
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}

// Dup keeps the socket from the finalizers and clean-ups of others.
func Dup(t testing.TB, fd int) int {
	t.Helper()
	copied, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return copied
}
