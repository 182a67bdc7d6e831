package porttest

import (
	"os"
	"syscall"
	"testing"
)

// WriteProgram writes a file that can be executed. No other test starts a process
// meanwhile: a child would have the file open for writing until it has executed, and
// execve(2) refuses such a file (ETXTBSY).
func WriteProgram(t testing.TB, name string, content []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(name, content, 0o755) //nolint:gosec // it is to be executed
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}
