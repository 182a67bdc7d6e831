package blackbox

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// maxConnections is how many connections an http probe may ask for. Each of ten
// redirects, which is the most that the prober follows, takes one. Without a
// limit net/http connects again for as long as a server answers GOAWAY: 1,092
// times in 3 s.
const maxConnections = 12

var (
	errTooMany = fmt.Errorf("the server ends each connection before it answers; %d were made", maxConnections)
	errName    = errors.New("an HTTP/3 redirect to a name cannot be checked before a packet is sent")
)

// watch sees what an http probe does on the network, and remembers the errors
// with their types. It hears of it from httptrace, and from the relay.
type watch struct {
	allow func(netip.AddrPort) error // of HTTP/3 only: else the relay asks, or nobody has to

	relayed bool // the relay connects: what it did not hear of is no fault of a target

	mu          sync.Mutex
	connections int // asked for
	phase       probe.Phase
	peer        netip.AddrPort
	isTLS       bool  // the current connection
	answered    bool  // a byte of an answer came on it
	relayErr    error // why the relay is no more
	connectErr  error
	connectTime time.Duration // what the relay took to make the current connection
	hidden      hiddenTime
	wantsToken  bool // the last that was asked for is a connection to a token server
	tlsErr      error
	denied      error
	tooMany     bool
}

// hiddenTime is what the prober does not see of connecting, and what of that it
// counts as something else.
type hiddenTime struct{ connect, tls, processing time.Duration }

// trace returns the hooks. Those of the prober come first.
func (w *watch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { w.enter(probe.PhaseResolve) },
		GetConn:  w.connecting,
		TLSHandshakeStart: func() {
			w.enter(probe.PhaseTLS)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.isTLS = true
			w.hidden.connect += w.connectTime
		},
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.tlsErr = err
		},
		GotConn: func(httptrace.GotConnInfo) { w.enter(probe.PhaseExchange) },
		GotFirstResponseByte: func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.answered = true
		},
	}
}

func (w *watch) enter(phase probe.Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = phase
}

// received takes how many bytes a target sent. Under TLS they need not be an
// answer. net/http does not tell of one that comes before it has asked.
func (w *watch) received(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = w.answered || n > 0 && !w.isTLS
}

// connected takes how the relay made a connection that net/http waits for.
func (w *watch) connected(took time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connectErr, w.connectTime = err, took
}

// connectedLate takes how the relay made a connection that net/http has begun to
// use already, and with which it takes up again where it was.
func (w *watch) connectedLate(scheme string, took time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.connectErr = err; err != nil {
		return
	}
	w.hidden.connect += took
	if scheme == "https" {
		w.phase = probe.PhaseTLS
		w.hidden.tls += took
		return
	}
	w.phase = probe.PhaseExchange
	w.hidden.processing += took
}

// wantToken notes that a connection to a token server is asked for.
func (w *watch) wantToken() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wantsToken = true
}

// tried takes how connecting to an address went.
func (w *watch) tried(to netip.AddrPort, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peer = to
	if failed, ok := errors.AsType[*probe.ConnectError](err); ok && failed.Outcome == probe.Denied {
		w.denied = failed.Err
	}
}

func (w *watch) isDenied() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.denied != nil
}

// connecting is called by the goroutine that is about to want a connection. It
// panics with a veto to keep it from that.
func (w *watch) connecting(hostPort string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.connections++; w.connections > maxConnections {
		w.tooMany = true
		panic(veto{})
	}
	w.phase, w.answered, w.isTLS = probe.PhaseConnect, false, false
	w.connectErr, w.connectTime, w.tlsErr, w.wantsToken = nil, 0, nil, false
	if w.allow == nil {
		return
	}
	if to, err := parseAddress(hostPort); err != nil {
		w.denied = errName // quic-go would look it up and send, and look at no context in between
	} else {
		w.peer, w.denied = to, w.allow(to)
	}
	if w.denied != nil {
		panic(veto{})
	}
}

// parseAddress reads an address with its port, an IPv4 one in an IPv6 one as
// IPv4. Its error is a name.
func parseAddress(hostPort string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(hostPort)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), err
}
