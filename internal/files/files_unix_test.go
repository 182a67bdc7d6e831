//go:build unix

package files

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestPipes has a pipe without a writer, which open(2) would wait for, and those
// that a shell makes.
func TestPipes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	const want = "it is a pipe, not a regular file"
	if _, err := (Rules{}).Read(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("read: %v", err)
	}
	if err := Check(path); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("check: %v", err)
	}
	go func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, _ = f.WriteString("text")
			_ = f.Close()
		}
	}()
	if text, err := (Rules{Pipes: true}).Read(t.Context(), path); err != nil || string(text) != "text" {
		t.Errorf("a named pipe at start: %q, %v", text, err)
	}
	read, written, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	_, _ = written.WriteString("text")
	_ = written.Close()
	name := filepath.Join("/dev/fd", strconv.Itoa(int(read.Fd())))
	if text, err := (Rules{Pipes: true}).Read(t.Context(), name); err != nil || string(text) != "text" {
		t.Errorf("%s at start: %q, %v", name, text, err)
	}
}
