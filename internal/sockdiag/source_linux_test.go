package sockdiag

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// newSource returns a source that has found what this kernel can do.
func newSource(t testing.TB) *Source {
	t.Helper()
	s, err := New(t.Context())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("SKIP-SOCKDIAG: no sock_diag here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sockets reads everything, both ways, and fails the test where they differ.
func sockets(t testing.TB, s *Source) []socket.Socket {
	t.Helper()
	one, two := readAll(t, s), readAll(t, &Source{})
	byCookie := func(sockets []socket.Socket) map[uint64]socket.Socket {
		m := map[uint64]socket.Socket{}
		for _, s := range sockets {
			s.ReceiveQueue, s.SendQueue, s.Retransmits, s.ZeroWindow = 0, 0, 0, false // these move between the two reads
			m[s.Cookie] = s
		}
		return m
	}
	if diff := cmp.Diff(byCookie(two), byCookie(one), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); s.OneWalk() && diff != "" {
		t.Errorf("two walks and one walk differ (-two +one):\n%s", diff)
	}
	return one
}

func readAll(t testing.TB, s *Source) []socket.Socket {
	t.Helper()
	var all []socket.Socket
	for _, want := range []socket.StateSet{socket.Listening, socket.Connections} {
		for sock, err := range s.Sockets(t.Context(), want) {
			if err != nil {
				t.Fatal(err)
			}
			if !want.Has(sock.State) {
				t.Errorf("%v is not in what was asked for", sock.State)
			}
			all = append(all, *sock)
		}
	}
	return all
}

// ss counts sockets by family and state as ss(8) does, in this namespace.
func ss(t testing.TB) map[string]int {
	t.Helper()
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("SKIP-SS: ss (iproute2) is not installed")
	}
	counts := map[string]int{}
	for family, flag := range map[string]string{"ipv4": "-4", "ipv6": "-6"} {
		for protocol, kind := range map[string]string{"tcp": "-tanH", "udp": "-uanH"} {
			out, err := exec.Command("ss", flag, kind).Output()
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(out)) {
				counts[protocol+" "+family+" "+strings.Fields(line)[0]]++
			}
		}
	}
	return counts
}

var ssNames = map[socket.State]string{
	socket.Established: "ESTAB", socket.SynSent: "SYN-SENT", socket.SynRecv: "SYN-RECV", socket.FinWait1: "FIN-WAIT-1",
	socket.FinWait2: "FIN-WAIT-2", socket.TimeWait: "TIME-WAIT", socket.CloseWait: "CLOSE-WAIT", socket.LastAck: "LAST-ACK",
	socket.Listen: "LISTEN", socket.Closing: "CLOSING", socket.Unconnected: "UNCONN", socket.Connected: "ESTAB",
}

func counts(sockets []socket.Socket) map[string]int {
	counts := map[string]int{}
	for _, s := range sockets {
		if s.Protocol != socket.UDPLite { // which ss does not show
			counts[s.Protocol.String()+" "+s.Family.String()+" "+ssNames[s.State]]++
		}
	}
	return counts
}

func TestEveryStateInNamespace(t *testing.T) {
	porttest.Namespace(t)
	source := newSource(t)

	want := map[string]int{}
	for family, address := range map[string]string{"ipv4": "127.0.0.1:80", "ipv6": "[::1]:80"} {
		for state, n := range porttest.EveryState(t, address) {
			want["tcp "+family+" "+state] += n
		}
	}
	// A deferred accept keeps the server's end in SYN_RECV.
	porttest.Listen(t, "127.0.0.1:81", 16, porttest.DeferAccept)
	porttest.Dial(t, "127.0.0.1:81")
	want["tcp ipv4 LISTEN"]++
	want["tcp ipv4 ESTAB"]++
	want["tcp ipv4 SYN-RECV"]++
	// An IPv4 connection to a dual-stack listener: its server end is an IPv6 socket.
	porttest.Listen(t, "[::]:82", 16, porttest.V6Only(false))
	porttest.Dial(t, "127.0.0.1:82")
	want["tcp ipv6 LISTEN"]++
	want["tcp ipv4 ESTAB"]++
	want["tcp ipv6 ESTAB"]++
	// Nobody answers the second interface.
	porttest.AddVeth(t, "up0", "192.0.2.1/24")
	porttest.StartDial(t, "192.0.2.9:443")
	want["tcp ipv4 SYN-SENT"]++
	porttest.UDP(t, "0.0.0.0:53")
	porttest.Connect(t, porttest.UDP(t, "[::1]:5353"), "[::1]:53")
	want["udp ipv4 UNCONN"]++
	want["udp ipv6 ESTAB"]++

	got := counts(sockets(t, source))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sockets made and sockets read (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ss(t), got); diff != "" {
		t.Errorf("ss and this (-ss +got):\n%s", diff)
	}
}

// one returns the only socket of the list that passes.
func one(t testing.TB, sockets []socket.Socket, what string, pass func(socket.Socket) bool) socket.Socket {
	t.Helper()
	var found []socket.Socket
	for _, s := range sockets {
		if pass(s) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d sockets are %s: %+v", len(found), what, found)
	}
	return found[0]
}

func at(address string) func(socket.Socket) bool {
	want := netip.MustParseAddrPort(address)
	return func(s socket.Socket) bool {
		return s.Local == want && (s.State == socket.Listen || s.Protocol != socket.TCP)
	}
}

func TestListenerFactsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	source := newSource(t)
	porttest.AddVeth(t, "up0", "192.0.2.1/24")

	full := porttest.Listen(t, "127.0.0.1:80", 1)
	for range 2 { // the queue takes one more than its limit
		porttest.Dial(t, "127.0.0.1:80")
	}
	for range 3 {
		porttest.StartDial(t, "127.0.0.1:80")
	}
	porttest.Listen(t, "0.0.0.0:81", 100_000) // beyond net.core.somaxconn
	porttest.Listen(t, "[::]:82", 5, porttest.V6Only(true))
	porttest.Listen(t, "[::]:83", 5, porttest.V6Only(false))
	porttest.Listen(t, "0.0.0.0:84", 5, porttest.BindToDevice("up0"))
	porttest.Listen(t, "[::ffff:127.0.0.1]:85", 5)
	porttest.UDPLite(t, "127.0.0.1:86")

	porttest.UDP(t, "127.0.0.1:53", func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	})
	sender := porttest.UDP(t, "127.0.0.1:0")
	porttest.Connect(t, sender, "127.0.0.1:53")
	for range 50 {
		_, _ = unix.Write(sender, make([]byte, 1024))
	}

	all := sockets(t, source)
	if s := one(t, all, "the full listener", at("127.0.0.1:80")); s.AcceptQueue != 2 || s.AcceptQueueLimit != 1 || s.Drops < 3 ||
		!s.Known.Has(socket.KnowsAcceptQueueLimit|socket.KnowsDrops) || s.ReceiveQueue != 0 || s.SendQueue != 0 {
		t.Errorf("a full accept queue: %+v", s)
	}
	if s := one(t, all, "the clamped listener", at("0.0.0.0:81")); s.AcceptQueueLimit != 4096 {
		t.Errorf("backlog clamped to %d, want net.core.somaxconn (4096)", s.AcceptQueueLimit)
	}
	if s := one(t, all, "V6ONLY", at("[::]:82")); !s.V6Only || !s.Known.Has(socket.KnowsV6Only) {
		t.Errorf("V6ONLY: %+v", s)
	}
	if s := one(t, all, "dual stack", at("[::]:83")); s.V6Only || !s.Known.Has(socket.KnowsV6Only) {
		t.Errorf("dual stack: %+v", s)
	}
	if s := one(t, all, "on a device", at("0.0.0.0:84")); s.Interface != "up0" {
		t.Errorf("SO_BINDTODEVICE: %+v", s)
	}
	if s := one(t, all, "mapped", at("127.0.0.1:85")); s.Family != socket.IPv6 {
		t.Errorf("IPv4-mapped: %+v", s)
	}
	if s := one(t, all, "UDP-Lite", at("127.0.0.1:86")); s.Protocol != socket.UDPLite || s.State != socket.Unconnected {
		t.Errorf("UDP-Lite: %+v", s)
	}
	if s := one(t, all, "UDP", at("127.0.0.1:53")); s.ReceiveQueue == 0 || s.Drops == 0 || !s.Known.Has(socket.KnowsDrops) {
		t.Errorf("an overrun UDP socket: %+v", s)
	}

	porttest.Accept(t, full)
	if s := one(t, sockets(t, source), "the full listener", at("127.0.0.1:80")); s.AcceptQueue != 1 {
		t.Errorf("after one accept: %+v", s)
	}
}

func TestSynRetransmitsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	source := newSource(t)
	porttest.AddVeth(t, "up0", "192.0.2.1/24")
	porttest.SilentNeighbour(t, "up0", "192.0.2.9")
	porttest.StartDial(t, "192.0.2.9:443")
	syn := func() socket.Socket {
		return one(t, sockets(t, source), "in SYN_SENT", func(s socket.Socket) bool { return s.State == socket.SynSent })
	}
	if s := syn(); s.Retransmits != 0 {
		t.Errorf("at once: %+v", s)
	}
	for range 100 { // the first retransmission comes after a second (RFC 6298)
		if syn().Retransmits > 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("after five seconds: %+v", syn())
}

func TestQueueBytesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	source := newSource(t)
	listener := porttest.Listen(t, "127.0.0.1:80", 5)
	client := porttest.Dial(t, "127.0.0.1:80")
	server := porttest.Accept(t, listener)
	if _, err := unix.Write(client, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	serverAddr, clientAddr := porttest.LocalAddr(t, server), porttest.LocalAddr(t, client)
	s := one(t, sockets(t, source), "the server's end", func(s socket.Socket) bool { return s.Remote == clientAddr })
	if s.ReceiveQueue != 1000 || s.Local != serverAddr {
		t.Errorf("with 1000 bytes unread: %+v", s)
	}
}

func TestContextEndsRead(t *testing.T) {
	s := newSource(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.Sockets(cancelled, socket.Listening) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled read gave %v", err)
		}
	}
	expired, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err := New(expired); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("New past its deadline: %v", err)
	}
}

func TestReadMayBeLeft(t *testing.T) {
	porttest.Namespace(t)
	source := newSource(t)
	for port := range 500 {
		porttest.Listen(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(10_000+port)).String(), 1)
	}
	for range 100 { // far more often than there are descriptors to leak
		for range source.Sockets(t.Context(), socket.Listening) {
			break
		}
	}
	if n := counts(sockets(t, source))["tcp ipv4 LISTEN"]; n != 500 {
		t.Errorf("%d listeners, want 500", n)
	}
}

func TestInterfaceThatIsGone(t *testing.T) {
	c := &conn{names: map[uint32]string{7: "eth0"}}
	if got := c.interfaceName(7); got != "eth0" {
		t.Errorf("a cached name is %q", got)
	}
	if got := c.interfaceName(1 << 30); got != "if1073741824" {
		t.Errorf("an unknown interface is %q", got)
	}
}

func TestUnsupported(t *testing.T) {
	for err, want := range map[error]bool{
		unix.ENOENT: true, unix.EPROTONOSUPPORT: true, unix.EPERM: true, unix.EAFNOSUPPORT: true,
		unix.ENOBUFS: false, unix.EBADF: false, context.Canceled: false,
	} {
		if got := errors.Is(unsupported(err), errors.ErrUnsupported); got != want || !errors.Is(unsupported(err), err) {
			t.Errorf("unsupported(%v) = %v", err, unsupported(err))
		}
	}
}

func TestRetry(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx   context.Context
		err   error
		again bool
		want  error
	}{
		{t.Context(), nil, false, nil},
		{t.Context(), unix.EINTR, true, nil},
		{t.Context(), unix.EAGAIN, true, nil},
		{cancelled, unix.EAGAIN, false, context.Canceled},
		{t.Context(), unix.ENOBUFS, false, socket.ErrIncomplete},
		{t.Context(), unix.EBADF, false, unix.EBADF},
	} {
		if again, err := retry(tt.ctx, tt.err); again != tt.again || !errors.Is(err, tt.want) {
			t.Errorf("retry(%v) = %v, %v", tt.err, again, err)
		}
	}
}

// TestRequests pins what each read asks of the kernel.
func TestRequests(t *testing.T) {
	listen := uint32(1 << socket.Listen)
	rest := uint32(socket.Connections)
	for _, tt := range []struct {
		name   string
		source Source
		want   socket.StateSet
		expect []request
	}{
		{"listeners, one walk", Source{oneWalk: true}, 1 << socket.Listen, []request{{socket.TCP, familyUnspec, listen, true, false}}},
		{"listeners, two walks", Source{}, 1 << socket.Listen, []request{{socket.TCP, familyINET, listen, true, false}, {socket.TCP, familyINET6, listen, true, false}}},
		{"connections, one walk", Source{oneWalk: true}, socket.Connections, []request{{socket.TCP, familyUnspec, rest, false, false}}},
		{"connections with INFO, two walks", Source{}, socket.Connections | socket.WithInfo, []request{{socket.TCP, familyINET, rest, false, true}, {socket.TCP, familyINET6, rest, false, true}}},
		{"unconnected UDP", Source{}, 1 << socket.Unconnected, []request{
			{socket.UDP, familyINET, 1 << 7, true, false}, {socket.UDP, familyINET6, 1 << 7, true, false},
			{socket.UDPLite, familyINET, 1 << 7, true, false}, {socket.UDPLite, familyINET6, 1 << 7, true, false}}},
	} {
		if diff := cmp.Diff(tt.expect, tt.source.requests(tt.want), cmp.AllowUnexported(request{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestFullQueueOfGroupInNamespace has a group of sockets of which one does not
// accept: the sum of the group is low, and one of its queues is full.
func TestFullQueueOfGroupInNamespace(t *testing.T) {
	porttest.Namespace(t)
	const members, backlog = 4, 8
	listeners := make([]int, members)
	for i := range listeners {
		listeners[i] = porttest.Listen(t, "0.0.0.0:81", backlog, porttest.ReusePort)
		if err := unix.SetNonblock(listeners[i], true); err != nil {
			t.Fatal(err)
		}
	}
	source, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	read := func() *socket.Table {
		t.Helper()
		table, err := socket.Reader{Source: source, EphemeralPorts: func() (socket.EphemeralPorts, error) {
			return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
		}}.Listening(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	for range 1000 { // the kernel spreads them by a hash; all but the first socket are emptied
		if read().Listeners[0].Full > 0 {
			break
		}
		porttest.StartDial(t, "127.0.0.1:81")
		for _, l := range listeners[1:] {
			if fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err == nil {
				_ = unix.Close(fd)
			}
		}
	}
	table := read()
	l := table.Listeners[0]
	if l.Sockets != members || l.Full != 1 || l.Worst != (socket.AcceptQueue{Length: backlog + 1, Limit: backlog}) || l.AcceptQueue >= l.AcceptQueueLimit {
		t.Errorf("%+v", l)
	}
	if answer, known := table.Answer(socket.TCP, netip.MustParseAddrPort("127.0.0.1:81"), "lo"); !known || answer.Standing != socket.QueueFull {
		t.Errorf("the answer to a probe: %v", answer)
	}
}

// TestDropsOfPeersInNamespace has a UDP service with a socket for one client, as QUIC
// servers have it, neither of which is read: the drops of the listener are all that
// the kernel counts.
func TestDropsOfPeersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	source := newSource(t)
	const service, client, stranger = "127.0.0.1:443", "127.0.0.2:40000", "127.0.0.3:40000"
	small := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }
	porttest.UDP(t, service, porttest.ReusePort, small)
	peer := porttest.UDP(t, service, porttest.ReusePort, small)
	porttest.Connect(t, peer, client)
	for _, from := range []string{client, stranger} {
		fd := porttest.UDP(t, from)
		porttest.Connect(t, fd, service)
		for range 64 {
			if _, err := unix.Write(fd, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func() *socket.Table {
		table, err := socket.ReadListening(source.Sockets(t.Context(), socket.Listening), socket.Criteria{})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	history := socket.NewHistory(time.Now)
	table := read()
	dropped := history.Note(history.Now(), table.Listeners).Drops
	if len(table.Listeners) == 0 || table.Listeners[0].Port != 443 || dropped[0] != receiveBufferErrors(t) || dropped[0] < 100 {
		t.Errorf("%v of %+v, and the kernel counts %d", dropped, table.Listeners, receiveBufferErrors(t))
	}
	porttest.Close(t, peer)
	if again := history.Note(history.Now(), read().Listeners).Drops; again[0] != dropped[0] {
		t.Errorf("%d drops after the client has gone, %d before", again[0], dropped[0])
	}
}

// receiveBufferErrors reads the kernel's counter for IPv4 in this namespace.
func receiveBufferErrors(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		n, err := strconv.ParseUint(fields[slices.Index(names, "RcvbufErrors")], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatal("net/snmp has no Udp:")
	return 0
}
