package procnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

const unixHeader = "Num       RefCount Protocol Flags    Type St Inode Path"

func TestUnixLines(t *testing.T) {
	dir := t.TempDir()
	if _, err := Unix(dir, 9); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a missing file: %v", err)
	}
	file := filepath.Join(dir, "net/unix")
	write := func(lines ...string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if _, err := Unix(dir, 9); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an empty file: %v", err)
	}
	write(unixHeader,
		"0000000000000000: 00000002 00000000 00010000 0001 01   100 /run/a.sock",
		"0000000000000000: 00000002 00000000 00010000 0001 01 101  /run/with  blank ",
		"0000000000000000: 00000002 00000000 00010000 0005 01 102 @abstract@x@@@",
		"0000000000000000: 00000002 00000000 00000000 0002 01 103 /run/datagram",
		"0000000000000000: 00000003 00000000 00000000 0001 03 104",
		"0000000000000000: 00000002 00000000 00010000 0001 01 105 /run/new",
		"line of its name",
		"0000000000000000: 00000002 00000000 0001000x 0001 01 106 /run/b",
		"0000000000000000 00000002 00000000 00010000 0001 01 107 /run/c",
		"0000000000000000: 00000002 00000000 00010000 0001 01 108",
		"0000000000000000: 00000002 00000000 00010000 0001 01 108 ",
		"0000000000000000: 00000002 00000000 00010000 0001 01",
		strings.Repeat("x", 100<<10),
		"0000000000000000: 00000002 00000000 00010000 0001 01 109 /run/beyond the limit")
	read, err := Unix(dir, 4)
	if err != nil || read.Malformed != 7 || read.Unread != 1 {
		t.Errorf("%d malformed, %d unread, %v", read.Malformed, read.Unread, err)
	}
	want := []string{"100 path /run/a.sock", "101 path  /run/with  blank ", "102 abstract @abstract@x", "105 path /run/new"}
	if diff := cmp.Diff(want, unixOf(read)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func unixOf(read socket.PortlessRead) (lines []string) {
	for _, l := range read.Listeners {
		lines = append(lines, fmt.Sprintf("%d %s %s", l.Members[0].Inode, l.Unix.Kind(), l.Unix.Path))
	}
	return lines
}

// TestUnixOfThisHost has a listener on a path with blanks, and an abstract one.
func TestUnixOfThisHost(t *testing.T) {
	if _, err := Unix("/proc", 1<<20); err != nil {
		t.Skipf("SKIP-PROCFS: %v", err)
	}
	path := filepath.Join(t.TempDir(), "a b")
	abstract := fmt.Sprintf("@port_exporter test %d", os.Getpid())
	for _, name := range []string{path, abstract} {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	read, err := Unix("/proc", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, l := range read.Listeners {
		if l.Unix == (socket.UnixName{Path: path}) || l.Unix == (socket.UnixName{Path: abstract, Abstract: true}) {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 listeners in %q", found, unixOf(read))
	}
}
