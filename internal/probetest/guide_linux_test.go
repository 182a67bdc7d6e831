package probetest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestGettingStartedInNamespace runs the commands of docs/getting-started.md in one shell,
// and compares what each block prints.
func TestGettingStartedInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Program(t, "SKIP-PROMETHEUS", "promtool")
	porttest.Program(t, "SKIP-PYTHON", "python3")
	porttest.Program(t, "SKIP-CURL", "curl")
	document, err := os.ReadFile("docs/getting-started.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Abs("examples")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(examples, filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	const mark = "end of the block"
	script, blocks := "set -u\n", regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(string(document), -1)
	for _, b := range blocks {
		for _, command := range regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(b[1], -1) {
			script += command[1] + "\n"
		}
		script += "echo " + mark + "\n"
	}
	name := "(port_exporter|" + regexp.QuoteMeta(porttest.OwnName(t)) + ")" // as a process
	printed := strings.Split(runShell(t, dir, script), mark+"\n")
	if len(printed) != len(blocks)+1 {
		t.Fatalf("%d blocks ran, want %d:\n%s", len(printed)-1, len(blocks), printed)
	}
	for i, b := range blocks {
		for line := range strings.Lines(b[1]) {
			line = strings.TrimSuffix(line, "\n")
			want := "(?m)^" + strings.NewReplacer(" … ", ".*", "…", ".*", "port_exporter", name).Replace(regexp.QuoteMeta(line)) + "$"
			if !strings.HasPrefix(line, "$ ") && !regexp.MustCompile(want).MatchString(printed[i]) {
				t.Errorf("no line is %q:\n%s", line, printed[i])
			}
		}
	}
}

// runShell returns what a script prints. Then it ends what the script left running.
func runShell(t *testing.T, dir, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.SysProcAttr = dir, &out, &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	if err := cmd.Wait(); err != nil && ctx.Err() != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	return out.String()
}
