package examplestest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// The load is a process of its own, since a goroutine of the test that is not
// the test's own is not in its namespace. It is this program, selected by the
// environment: the variable holds how much slower it is to grow than it could.
const loadVariable = "EXAMPLESTEST_LOAD"

// What the load needs beside it: nginx on nginxAddress and conflictPort, and a
// host that never answers.
const (
	nginxAddress  = "127.0.0.1:8080"
	conflictPort  = "8081"
	silentAddress = "192.0.2.9"

	// privateAddress is one of this host.
	privateAddress = "10.99.0.1"

	// ephemeralRange has few ports, so that they can be used up.
	ephemeralRange = "40000 40999"
)

func TestMain(m *testing.M) {
	slower, err := strconv.ParseFloat(os.Getenv(loadVariable), 64)
	if err != nil {
		os.Exit(m.Run())
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	runLoad(ctx, slower)
}

// runLoad makes, until ctx ends, what the rules and dashboards are to show.
func runLoad(ctx context.Context, slower float64) {
	l := load{ctx: ctx, start: time.Now(), slower: slower}
	var wg sync.WaitGroup
	for _, part := range []func(){
		l.timeWait, l.closeWaitOfService, l.closeWaitOfClient, l.synSent, l.acceptQueue, l.halfQueue, l.synQueue, l.ephemeralPorts,
		l.lossy, l.flaky, l.slowReader, l.noWayBack, l.ephemeralPortsOfUDP, l.timeWaitOfClient, l.orphaned, l.orphans, l.unread, l.datagrams, l.churn, l.steady, l.resets, l.selfSigned, l.expired, l.stun,
	} {
		wg.Go(part)
	}
	<-ctx.Done()
	wg.Wait()
}

type load struct {
	ctx    context.Context //nolint:containedctx // the load lives as long as its context
	start  time.Time
	slower float64
}

// every calls a function so many times per second; 0 pauses for a second.
func (l load) every(perSecond func() float64, do func(n int)) {
	for n := 0; l.ctx.Err() == nil; n++ {
		pause := time.Second
		if rate := perSecond(); rate > 0 {
			pause = time.Duration(float64(time.Second) / rate)
			do(n)
		}
		l.sleep(pause)
	}
}

func (l load) sleep(d time.Duration) {
	select {
	case <-l.ctx.Done():
	case <-time.After(d):
	}
}

// upTo grows by a rate until a number is reached, and says so by 0.
func (l load) upTo(number int, perSecond float64) func() float64 {
	n := 0
	return func() float64 {
		if n++; n > number {
			return 0
		}
		return perSecond / l.slower
	}
}

func constant(perSecond float64) func() float64 { return func() float64 { return perSecond } }

// listen returns a listener, whose backlog is net.core.somaxconn. It ends with
// the load.
func (l load) listen(address string, options ...porttest.Option) net.Listener {
	config := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			for _, option := range options {
				failed = errors.Join(failed, option(int(fd)))
			}
		})
		return errors.Join(err, failed)
	}}
	network := "tcp4" // else 0.0.0.0 is [::] for Go
	if strings.HasPrefix(address, "[") {
		network = "tcp6"
	}
	listener, err := config.Listen(l.ctx, network, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	context.AfterFunc(l.ctx, func() { _ = listener.Close() })
	return listener
}

// dial returns nil when nobody answers in time. Without keep-alive, what leaks
// stays.
func (l load) dial(from, to string, timeout time.Duration) *net.TCPConn {
	dialer := net.Dialer{Timeout: timeout, KeepAlive: -1}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.DialContext(l.ctx, "tcp", to)
	if err != nil {
		return nil
	}
	return conn.(*net.TCPConn)
}

// accept hands every connection of a listener to a function.
func (l load) accept(listener net.Listener, take func(c *net.TCPConn)) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		take(conn.(*net.TCPConn))
	}
}

func discard(c *net.TCPConn) {
	go func() {
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}()
}

// keep holds a connection without ever reading from it.
func (l load) keep(c *net.TCPConn) {
	if c != nil {
		context.AfterFunc(l.ctx, func() { _ = c.Close() })
	}
}

// timeWait asks nginx for something without keep-alive, more often and less
// often in turn: nginx closes first.
func (l load) timeWait() {
	wave := func() float64 {
		return 40 + 30*math.Cos(time.Since(l.start).Seconds()*2*math.Pi/(120*l.slower))
	}
	l.every(wave, func(n int) {
		if c := l.dial(fmt.Sprintf("127.0.0.%d", 2+n%20), nginxAddress, time.Second); c != nil {
			_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
			discard(c)
		}
	})
}

// closeWaitOfService is a service that never closes.
func (l load) closeWaitOfService() {
	go l.accept(l.listen("127.0.0.1:9000"), l.keep)
	l.every(leak(), func(int) {
		if c := l.dial("", "127.0.0.1:9000", time.Second); c != nil {
			_ = c.Close()
		}
	})
}

// leak begins immediately with more than the rules let pass, since they ask what
// there was at least.
func leak() func() float64 {
	n := 0
	return func() float64 {
		if n++; n < 20 {
			return 1000
		}
		return 1
	}
}

// closeWaitOfClient is a client that never closes.
func (l load) closeWaitOfClient() {
	go l.accept(l.listen("127.0.0.1:9001"), func(c *net.TCPConn) { _ = c.Close() })
	l.every(leak(), func(int) { l.keep(l.dial("", "127.0.0.1:9001", time.Second)) })
}

// synSent are three clients of a server that is gone.
func (l load) synSent() {
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			l.every(constant(1), func(int) { l.keep(l.dial("", silentAddress+":5432", 4*time.Second)) })
		})
	}
	wg.Wait()
}

// acceptQueue is a service that does not accept, with more clients than its
// queue takes.
func (l load) acceptQueue() {
	l.listen("0.0.0.0:8443")
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			l.every(constant(1), func(int) {
				if c := l.dial("", "127.0.0.1:8443", 3*time.Second); c != nil {
					l.sleep(20 * time.Second)
					_ = c.Close()
				}
			})
		})
	}
	wg.Wait()
}

// halfQueue is a service that does not accept, with fewer clients than its queue
// takes.
func (l load) halfQueue() {
	l.listen("127.0.0.1:8447")
	l.every(l.upTo(15, 10), func(int) { l.keep(l.dial("", "127.0.0.1:8447", 3*time.Second)) })
}

// synQueue is a service whose clients do not go on with their handshake.
func (l load) synQueue() {
	go l.accept(l.listen("127.0.0.1:8444", porttest.DeferAccept), discard)
	l.every(constant(5), func(int) {
		c := l.dial("", "127.0.0.1:8444", time.Second)
		if c != nil {
			time.AfterFunc(6*time.Second, func() { _ = c.SetLinger(0); _ = c.Close() })
		}
	})
}

// ephemeralPorts uses most of the local ports towards one destination by
// connections that stay.
func (l load) ephemeralPorts() {
	go l.accept(l.listen("127.0.0.1:6000"), discard)
	l.every(l.upTo(850, 60), func(int) { l.keep(l.dial("", "127.0.0.1:6000", time.Second)) })
}

// ephemeralPortsOfUDP holds most of the local ports of UDP.
func (l load) ephemeralPortsOfUDP() {
	var held []net.Conn // connected, or they would be taken for listeners after a while
	for range 850 {
		if c, err := net.Dial("udp4", "127.0.0.1:5140"); err == nil {
			held = append(held, c)
		}
	}
	<-l.ctx.Done()
	for _, c := range held {
		_ = c.Close()
	}
}

// timeWaitOfClient takes some of the rest by connections that are gone.
func (l load) timeWaitOfClient() {
	l.every(constant(6), func(int) {
		if c := l.dial("", "127.0.0.1:6000", time.Second); c != nil {
			_ = c.Close()
		}
	})
}

// orphaned leaves connections of a service that has ended. No process holds them:
// the kernel has still to send what the service wrote, and the clients do not read.
func (l load) orphaned() {
	service := l.listen("127.0.0.1:7000")
	go l.accept(service, func(c *net.TCPConn) {
		stuff(c)
		_ = c.Close()
	})
	for range 5 {
		l.keep(l.dial("", "127.0.0.1:7000", time.Second))
	}
	l.sleep(10 * time.Second)
	_ = service.Close()
	<-l.ctx.Done()
}

// orphans closes connections whose peer does not take what was written.
func (l load) orphans() {
	go l.accept(l.listen("127.0.0.1:7001"), l.keep)
	l.every(l.upTo(20, 1), func(int) {
		if c := l.dial("", "127.0.0.1:7001", time.Second); c != nil {
			stuff(c)
			_ = c.Close()
		}
	})
}

// stuff writes until nothing more is taken.
func stuff(c *net.TCPConn) {
	_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	block := make([]byte, 64<<10)
	for {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// unread leaves bytes in the queues of a service and of its client.
func (l load) unread() {
	go l.accept(l.listen("127.0.0.1:7002"), func(c *net.TCPConn) { stuff(c); l.keep(c) })
	l.every(l.upTo(8, 0.8), func(int) {
		if c := l.dial("", "127.0.0.1:7002", time.Second); c != nil {
			stuff(c)
			l.keep(c)
		}
	})
}

// lossyPort is of a service to and from which large packets are lost, and noWayBackPort
// of one whose SYN-ACKs are: the firewall of the test sees to it.
const lossyPort, noWayBackPort = "7004", "7005"

// lossy has both ends of connections send what does not arrive.
func (l load) lossy() {
	send := func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, 1000))
		l.keep(c)
	}
	go l.accept(l.listen("127.0.0.1:"+lossyPort), send)
	l.every(l.upTo(8, 4), func(int) {
		if c := l.dial("", "127.0.0.1:"+lossyPort, time.Second); c != nil {
			send(c)
		}
	})
}

// flakyPort is one to and from which the test drops each third segment with data.
const flakyPort = "7006"

// flaky are connections that send something, have some of it retransmitted, and end.
func (l load) flaky() {
	go l.accept(l.listen("127.0.0.1:"+flakyPort), func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, 1000))
		discard(c)
	})
	l.every(constant(4), func(int) {
		if c := l.dial("", "127.0.0.1:"+flakyPort, time.Second); c != nil {
			_, _ = c.Write(make([]byte, 1000))
			time.AfterFunc(time.Second, func() { _ = c.CloseWrite(); discard(c) })
		}
	})
}

// slowReader is a service that reads late what its clients send, who then close.
func (l load) slowReader() {
	go l.accept(l.listen("127.0.0.1:7007"), func(c *net.TCPConn) {
		time.AfterFunc(5*time.Second, func() { discard(c) })
	})
	l.every(constant(4), func(int) {
		if c := l.dial("", "127.0.0.1:7007", time.Second); c != nil {
			stuff(c)
			_ = c.Close()
		}
	})
}

// noWayBack are clients that never get an answer.
func (l load) noWayBack() {
	l.listen("127.0.0.1:" + noWayBackPort)
	var wg sync.WaitGroup
	for range 14 {
		wg.Go(func() {
			l.every(constant(1), func(int) { l.keep(l.dial("", "127.0.0.1:"+noWayBackPort, 10*time.Second)) })
		})
	}
	wg.Wait()
}

// datagrams go to a service that does not read, and to a port where there is
// none.
func (l load) datagrams() {
	service, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5140})
	if err != nil {
		return
	}
	defer service.Close()
	_ = service.SetReadBuffer(4096)
	var clients []*net.UDPConn // connected, or one would be taken for a listener after a while
	for _, port := range []int{5140, 5999} {
		client, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return
		}
		defer client.Close()
		clients = append(clients, client)
	}
	l.every(constant(20), func(int) {
		for _, client := range clients {
			_, _ = client.Write(make([]byte, 500))
		}
	})
}

// churn is a program that opens a port for each thing it does.
func (l load) churn() {
	l.every(constant(0.7), func(n int) {
		listener := l.listen(fmt.Sprintf("127.0.0.1:%d", 9100+n%5))
		l.sleep(1200 * time.Millisecond)
		_ = listener.Close()
	})
}

// steady are listeners that no rule expects, that are in the way of others, or
// that have clients and nothing else.
func (l load) steady() {
	for _, address := range []string{"0.0.0.0:4444", privateAddress + ":4445", "127.0.0.1:4446", "127.0.0.1:4447", "127.0.0.1:9997"} {
		l.listen(address)
	}
	l.listen("127.0.0.1:"+conflictPort, porttest.ReusePort)
	go l.accept(l.listen("[::1]:6001"), l.keep)
	for range 3 {
		l.keep(l.dial("", "[::1]:6001", time.Second))
	}
	sniff(l.ctx)
	hangPool(l.ctx)
	if raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP); err == nil {
		defer unix.Close(raw)
	}
	if abstract, err := net.Listen("unix", "@port_exporter-load"); err == nil {
		defer abstract.Close()
	}
	<-l.ctx.Done()
}

// hangPool listens on a unix socket without accepting, and fills its queue.
func hangPool(ctx context.Context) {
	name := &unix.SockaddrUnix{Name: "@pool"}
	for _, use := range []func(fd int) error{
		func(fd int) error { return errors.Join(unix.Bind(fd, name), unix.Listen(fd, 0)) },
		func(fd int) error { return unix.Connect(fd, name) }, // one more than the backlog
	} {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return
		}
		_ = use(fd)
		context.AfterFunc(ctx, func() { _ = unix.Close(fd) })
	}
}

// sniff opens a packet socket with a filter that takes everything.
func sniff(ctx context.Context) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	accept := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff}}
	_ = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &accept[0]})
	context.AfterFunc(ctx, func() { _ = unix.Close(fd) })
}

// resets ends connections the hard way.
func (l load) resets() {
	go l.accept(l.listen("127.0.0.1:7003"), discard)
	l.every(constant(2), func(int) {
		if c := l.dial("", "127.0.0.1:7003", time.Second); c != nil {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	})
}

// selfSigned is a TLS server whose certificate nobody trusts, and that has a week
// to go.
func (l load) selfSigned() { l.underTLS("127.0.0.1:8445", time.Now().Add(7*24*time.Hour)) }

// expired is one whose certificate expired an hour ago.
func (l load) expired() { l.underTLS("127.0.0.1:8446", time.Now().Add(-time.Hour)) }

// underTLS serves with a certificate of its own that is good until a time.
func (l load) underTLS(address string, until time.Time) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	_ = server.Listener.Close()
	server.Listener = l.listen(address)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	server.StartTLS()
	<-l.ctx.Done()
	server.Close()
}

// stun returns the address of clients (RFC 8489, XOR-MAPPED-ADDRESS).
func (l load) stun() {
	service, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478})
	if err != nil {
		return
	}
	context.AfterFunc(l.ctx, func() { _ = service.Close() })
	request := make([]byte, 1500)
	for {
		n, from, err := service.ReadFromUDPAddrPort(request)
		if err != nil {
			return
		}
		if n < 20 {
			continue
		}
		answer := append([]byte{0x01, 0x01, 0, 12}, request[4:20]...)
		answer = append(answer, 0, 0x20, 0, 8, 0, 1)
		answer = binary.BigEndian.AppendUint16(answer, from.Port()^0x2112)
		address := from.Addr().Unmap().As4()
		answer = binary.BigEndian.AppendUint32(answer, binary.BigEndian.Uint32(address[:])^0x2112a442)
		_, _ = service.WriteToUDPAddrPort(answer, from)
	}
}
