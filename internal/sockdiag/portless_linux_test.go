package sockdiag

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// TestPacketBoundInNamespace has more packet sockets than the limit: what is beyond
// is counted.
func TestPacketBoundInNamespace(t *testing.T) {
	porttest.Namespace(t)
	for range 5 {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	for limit, unread := range map[int]int{3: 2, 5: 0} {
		read, err := Packets(t.Context(), limit)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skipf("SKIP-SOCKDIAG: no packet_diag here: %v", err)
		}
		if err != nil || len(read.Listeners) != limit || read.Unread != unread || read.Malformed != 0 {
			t.Errorf("limit %d: %d sockets, %d unread, %d malformed, %v", limit, len(read.Listeners), read.Unread, read.Malformed, err)
		}
	}
}

// TestModulesAreReported asks for what this kernel may lack: it says so, or answers.
func TestModulesAreReported(t *testing.T) {
	for name, read := range map[string]func() (socket.PortlessRead, error){
		"raw_diag":   func() (socket.PortlessRead, error) { return Raw(t.Context(), 1000) },
		"vsock_diag": func() (socket.PortlessRead, error) { return Vsock(t.Context(), 1000) },
	} {
		if got, err := read(); err != nil && !errors.Is(err, errors.ErrUnsupported) || got.Malformed > 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
