package sockdiag

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// logRows writes down the rows of a dump: those of other kernels are in the tests.
func logRows(t *testing.T, asks ...asker) {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, ask := range asks {
		err := c.dump(t.Context(), ask, func(d *dump, datagram []byte) (bool, error) {
			return d.parse(datagram, func(payload []byte) bool {
				t.Logf("%T row %x", ask, payload)
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestVsockInNamespace listens on vsock ports, one that the kernel chose among them.
func TestVsockInNamespace(t *testing.T) {
	porttest.Namespace(t)
	if _, err := Vsock(t.Context(), 1); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("SKIP-VSOCK: no vsock_diag here: %v", err)
	}
	var want []string
	for _, bind := range []*unix.SockaddrVM{
		{CID: unix.VMADDR_CID_ANY, Port: 22}, {CID: unix.VMADDR_CID_LOCAL, Port: 70_000}, {CID: unix.VMADDR_CID_ANY, Port: unix.VMADDR_PORT_ANY},
	} {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.Bind(fd, bind), unix.Listen(fd, 4)); err != nil {
			t.Fatal(err)
		}
		name, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		var inode unix.Stat_t
		if err := unix.Fstat(fd, &inode); err != nil {
			t.Fatal(err)
		}
		at := name.(*unix.SockaddrVM)
		want = append(want, fmt.Sprintf("%v %d", socket.VsockAddr{CID: at.CID, Port: at.Port}, inode.Ino))
	}
	if fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil { // no listener
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: 99}); err != nil {
			t.Fatal(err)
		}
	}
	logRows(t, vsockRequest{})
	read, err := Vsock(t.Context(), 2)
	if err != nil || read.Unread != 1 || read.Malformed != 0 {
		t.Errorf("%d unread, %d malformed, %v", read.Unread, read.Malformed, err)
	}
	if read, err = Vsock(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range read.Listeners {
		got = append(got, fmt.Sprintf("%v %d", l.Vsock, l.Members[0].Inode))
		if l.Protocol != socket.Vsock || l.Members[0].Cookie == 0 || l.Scope != l.Vsock.Scope() || uint32(l.Port) != l.Vsock.Port && l.Vsock.Port < 1<<16 {
			t.Errorf("%+v", l)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("vsock listeners (-want +got):\n%s", diff)
	}
}

// TestRawInNamespace reads raw sockets through raw_diag: with their device, which
// procfs lacks.
func TestRawInNamespace(t *testing.T) {
	porttest.Namespace(t)
	if _, err := Raw(t.Context(), 1); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("SKIP-RAWDIAG: no raw_diag here: %v", err)
	}
	for _, s := range []struct{ family, protocol int }{{unix.AF_INET, unix.IPPROTO_ICMP}, {unix.AF_INET, 200}, {unix.AF_INET6, unix.IPPROTO_ICMPV6}, {unix.AF_INET, unix.IPPROTO_RAW}} {
		fd, err := unix.Socket(s.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, s.protocol)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if s.protocol != 200 {
			continue
		}
		if err := errors.Join(unix.BindToDevice(fd, "lo"), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})); err != nil {
			t.Fatal(err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 9}}); err != nil {
			t.Fatal(err)
		}
	}
	logRows(t, request{socket.Raw, familyINET, allStates, false, false}, request{socket.Raw, familyINET6, allStates, false, false})
	read, err := Raw(t.Context(), 9)
	if err != nil || read.Unread != 0 || read.Malformed != 0 {
		t.Fatalf("%d unread, %d malformed, %v", read.Unread, read.Malformed, err)
	}
	var got []string
	for _, l := range read.Listeners {
		got = append(got, fmt.Sprintf("%v %v %s %s", l.Protocol, l.Address, l.Interface, socket.IPProtocolName(l.Port)))
		if m := l.Members[0]; m.Cookie == 0 || m.Inode == 0 || !l.Known.Has(socket.KnowsUID) {
			t.Errorf("%+v", l)
		}
	}
	slices.Sort(got)
	want := []string{"raw 0.0.0.0  icmp", "raw 0.0.0.0  raw", "raw 127.0.0.1 lo 200", "raw ::  ipv6-icmp"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("raw sockets (-want +got):\n%s", diff)
	}
}

// TestInterruptedPortless has a table that changes while it is read: it is read again,
// and what the second read gives is all there is. A row that is none is counted.
func TestInterruptedPortless(t *testing.T) {
	for interruptions, want := range []error{nil, nil, socket.ErrInterrupted} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		dumps := make(chan int)
		go func() { dumps <- answer(fds[1], interruptions) }()
		c := &conn{fd: fds[0], buf: make([]byte, bufferSize)}
		read, err := c.portless(t.Context(), 2, decodePacket, []asker{packetRequest{}})
		c.close()
		if n := <-dumps; n != min(interruptions+1, 2) || !errors.Is(err, want) {
			t.Errorf("%d interruptions: %d dumps, %v", interruptions, n, err)
		}
		if len(read.Listeners) != 2 || read.Unread != 1 || read.Malformed != 1 {
			t.Errorf("%d interruptions: %d sockets, %d unread, %d malformed", interruptions, len(read.Listeners), read.Unread, read.Malformed)
		}
	}
}

// answer is the kernel's side: to each request three packet sockets and a row that is
// none, until the other end closes. It returns how many requests there were.
func answer(fd, interruptions int) (dumps int) {
	defer unix.Close(fd)
	request := make([]byte, 1024)
	for {
		if n, err := unix.Read(fd, request); err != nil || n < nlmsgHeaderLen {
			return dumps
		}
		flags := uint16(0)
		if dumps < interruptions {
			flags = nlmDumpIntr
		}
		dumps++
		row := message(sockDiagByFamily, 0, packetMessage(3))
		whole := join(row, row, message(sockDiagByFamily, flags, packetMessage(3)), message(sockDiagByFamily, 0, []byte{1}), message(nlmsgDone, 0, errno(0)))
		for rest := whole; len(rest) > 0; rest = rest[align4(uint64(native.Uint32(rest))):] {
			copy(rest[8:12], request[8:12]) // the sequence number
		}
		if _, err := unix.Write(fd, whole); err != nil {
			return dumps
		}
	}
}
