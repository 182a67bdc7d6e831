package porttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Systemd boots a systemd that has this host's /usr and nothing else, in the network
// namespace of the test, and returns its pid. Of the units, by name, it starts
// test.target. More arguments are those of systemd-nspawn.
func Systemd(t testing.TB, units map[string]string, more ...string) (pid int) {
	t.Helper()
	nspawn := Program(t, "SKIP-NSPAWN", "systemd-nspawn")
	if os.Getuid() != 0 {
		t.Skip("SKIP-NAMESPACE: systemd-nspawn requires root")
	}
	args := []string{"--quiet", "--register=no", "--machine=" + fmt.Sprint("test-", os.Getpid(), "-", time.Now().UnixNano()), "--keep-unit", "--console=pipe", "--volatile=yes", "--directory=/"}
	dir := t.TempDir()
	for name, text := range units {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--bind-ro="+file+":/etc/systemd/system/"+name)
	}
	args = append(args, more...)
	cmd := exec.Command(nspawn, append(args, "/lib/systemd/systemd", "systemd.unit=test.target")...)
	Start(t, cmd)
	Await(t, "a systemd", func() bool {
		pid = childOf(cmd.Process.Pid, "systemd")
		return pid != 0
	})
	return pid
}

// childOf returns a child of a process that has a name, or 0.
func childOf(parent int, name string) (pid int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil { // it has ended
			continue
		}
		id, rest, _ := strings.Cut(string(stat), " ("+name+") ")
		var state string
		var of int
		if _, err := fmt.Sscan(rest, &state, &of); err != nil || of != parent {
			continue
		}
		if _, err := fmt.Sscan(id, &pid); err == nil {
			return pid
		}
	}
	return 0
}
