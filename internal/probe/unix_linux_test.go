package probe

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnixPermission probes a socket that only root may write to, as somebody
// else. Root is kept out by nothing, so the thread gives its rights up.
func TestUnixPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP-ROOT: only root can become somebody else")
	}
	dir, err := os.MkdirTemp("", "port_exporter") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "socket")
	startServer(t, "unix", path, hold)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}

	done := make(chan Result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its rights
		const nobody = 65534
		// Not [unix.Setresuid], which changes every thread of the process.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			done <- Result{Err: errno}
			return
		}
		p := &Unix{}
		done <- p.Probe(t.Context(), Request{Address: path})
	}()
	if got := <-done; got.Outcome != Prohibited || got.Origin != OriginLocal || got.Phase != PhaseConnect {
		t.Errorf("got %s (%s) in %q: %v", got.Outcome, got.Origin, got.Phase, got.Err)
	}
}
