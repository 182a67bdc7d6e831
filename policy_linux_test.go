package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestPolicyAtFirstUseInNamespace writes a policy while an intruder listens on a
// port of clients, which must not expect the next one. Run by nobody, the same
// policy accuses no one: what it cannot verify has a status of its own.
func TestPolicyAtFirstUseInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	porttest.Listen(t, "127.0.0.1:22", 8)
	porttest.Listen(t, "0.0.0.0:40000", 8)
	file := filepath.Join(porttest.OpenDir(t), "policy.yml")

	policy, _, status := porttest.EndedAs(t, nil, "port_exporter", "baseline")
	if status != 0 || strings.Contains(policy, "ephemeral") || !strings.Contains(policy, "is this meant?") {
		t.Errorf("status %d, and the intruder is taken for granted:\n%s", status, policy)
	}
	writeOpen(t, file, policy)
	if out, said, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+file, "listeners", "--unexpected"); status != 0 || out != "" || said != "" {
		t.Errorf("nothing to report: status %d, wrote %q and %q", status, out, said)
	}

	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, said, status := porttest.EndedAs(t, nobody, "port_exporter", "--config.file="+file, "listeners", "--unexpected")
	if status != 3 || strings.Count(out, "unverified: ") != 2 || strings.Contains(out, "unexpected") || !strings.Contains(said, "2 unverified") {
		t.Errorf("as nobody: status %d, wrote %q and %q", status, out, said)
	}
	writeOpen(t, file, strings.ReplaceAll(policy, "ports: 22\n", "ports: 22\n      required: true\n"))
	if _, said, status := porttest.EndedAs(t, nobody, "port_exporter", "--config.file="+file, "listeners"); status != 3 || strings.Contains(said, "missing: ") {
		t.Errorf("as nobody, with a required rule: status %d, said %q", status, said)
	}
	merged, said, status := porttest.EndedAs(t, nobody, "port_exporter", "--config.file="+file, "baseline", "--merge="+file)
	if text, _ := os.ReadFile(file); status != 0 || merged != string(text) || !strings.Contains(said, "no rule is added for 2 listeners") {
		t.Errorf("merged by nobody: status %d, said %q:\n%s", status, said, merged)
	}

	porttest.Listen(t, "0.0.0.0:40001", 8)
	out, said, status = porttest.EndedAs(t, nil, "port_exporter", "--config.file="+file, "listeners", "--unexpected")
	if status != 1 || !strings.Contains(out, "40001") || strings.Contains(out, "40000") || !strings.Contains(said, "1 unexpected") {
		t.Errorf("the next intruder: status %d, wrote %q and %q", status, out, said)
	}
	out, _, status = porttest.EndedAs(t, nobody, "port_exporter", "--config.file="+file, "listeners", "--unexpected")
	if status != 1 || !strings.Contains(out, "40001") {
		t.Errorf("the next intruder, as nobody: status %d, wrote %q", status, out)
	}
	checkSavedTable(t, file)
}

// checkSavedTable holds that the table of this host gets the same verdict from its
// file, where no socket is read.
func checkSavedTable(t *testing.T, policy string) {
	t.Helper()
	table, _, _ := porttest.EndedAs(t, nil, "port_exporter", "listeners", "--output=json")
	saved := filepath.Join(t.TempDir(), "host.json")
	writeOpen(t, saved, table)
	out, _, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+policy, "--source=gopsutil", "--path.procfs=/nonexistent", "listeners", "--unexpected", "--input="+saved, "--output=sarif")
	if status != 1 || !strings.Contains(out, "port 40001") || strings.Contains(out, "port 40000") {
		t.Errorf("from the file: status %d:\n%s", status, out)
	}
}

// writeOpen writes a file that every user can read.
func writeOpen(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
}
