package sockdiag

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// listenUnix listens on a name; an empty one is for the kernel to choose.
func listenUnix(t testing.TB, kind int, name string, backlog int) (fd int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, backlog)); err != nil {
		t.Fatal(err)
	}
	return fd
}

// fill connects to a name until the kernel takes no more, and returns how many
// connections wait to be accepted.
func fill(t testing.TB, kind int, name string) (waiting int) {
	t.Helper()
	const enough = 1000
	for ; waiting < enough; waiting++ {
		fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); errors.Is(err, unix.EAGAIN) {
			return waiting
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s takes %d connections", name, waiting)
	return waiting
}

// unixLines is what a read has, a line for each listener, as unixOfSS has it.
func unixLines(read socket.PortlessRead) (lines []string) {
	for _, l := range read.Listeners {
		lines = append(lines, fmt.Sprintf("%d %d %s %d", l.AcceptQueue, l.AcceptQueueLimit, l.Unix.Path, l.Members[0].Inode))
	}
	slices.Sort(lines)
	return lines
}

// unixOfSS is what ss has: both queues, the name and the inode.
func unixOfSS(t testing.TB) (lines []string) {
	t.Helper()
	out, err := exec.Command("ss", "-xH", "state", "listening").Output()
	if err != nil {
		t.Skipf("SKIP-SS: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 5 {
			lines = append(lines, strings.Join(f[1:5], " "))
		}
	}
	slices.Sort(lines)
	return lines
}

// TestUnixInNamespace has every kind of unix listener: what is read of them is what ss
// has, full queues included, and nothing is read of other sockets.
func TestUnixInNamespace(t *testing.T) {
	porttest.Namespace(t)
	dir := t.TempDir()
	fpm, gone := filepath.Join(dir, "php-fpm.sock"), filepath.Join(dir, "gone.sock")
	listenUnix(t, unix.SOCK_STREAM, fpm, 5)
	listenUnix(t, unix.SOCK_SEQPACKET, gone, 0)
	listenUnix(t, unix.SOCK_STREAM, "@abstract", 128)
	listenUnix(t, unix.SOCK_SEQPACKET, "@abstract", 7) // a type of its own may have the same name
	listenUnix(t, unix.SOCK_STREAM, "", 3)
	full, none := fill(t, unix.SOCK_STREAM, fpm), fill(t, unix.SOCK_SEQPACKET, gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	others, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(others[0]), unix.Close(others[1]) }()

	read, err := Unix(t.Context(), 100)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("SKIP-UNIXDIAG: no unix_diag here: %v", err)
	}
	if err != nil || read.Malformed != 0 || read.Unread != 0 || len(read.Listeners) != 5 {
		t.Fatalf("%d listeners, %d malformed, %d unread, %v", len(read.Listeners), read.Malformed, read.Unread, err)
	}
	if full != 6 || none != 1 { // one more than the backlog
		t.Errorf("the queues hold %d and %d", full, none)
	}
	if diff := cmp.Diff(unixOfSS(t), unixLines(read)); diff != "" {
		t.Errorf("(-ss +read):\n%s", diff)
	}
	for _, l := range read.Listeners {
		wantFull := l.Unix.Path == fpm || l.Unix.Path == gone
		if (l.Full == 1) != wantFull || l.Unix.Abstract != strings.HasPrefix(l.Unix.Path, "@") || !l.Known.Has(socket.KnowsUID) || l.Members[0].UID != 0 || l.Members[0].Cookie == 0 {
			t.Errorf("%+v", l)
		}
	}
	logRows(t, unixRequest{})
	if read, err := Unix(t.Context(), 2); err != nil || len(read.Listeners) != 2 || read.Unread != 3 {
		t.Errorf("with a limit: %d listeners, %d unread, %v", len(read.Listeners), read.Unread, err)
	}
}

// BenchmarkUnix reads 500 listeners among sockets that are none.
func BenchmarkUnix(b *testing.B) {
	for _, pairs := range []int{0, 5000} {
		b.Run(fmt.Sprintf("listeners=500/others=%d", 2*pairs), func(b *testing.B) {
			porttest.Namespace(b)
			for i := range 500 {
				listenUnix(b, unix.SOCK_STREAM, fmt.Sprintf("@service-%d", i), 128)
			}
			for range pairs {
				fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
			}
			b.ReportAllocs()
			for b.Loop() {
				read, err := Unix(b.Context(), 4096)
				if err != nil || len(read.Listeners) != 500 {
					b.Fatalf("%d listeners, %v", len(read.Listeners), err)
				}
			}
		})
	}
}
