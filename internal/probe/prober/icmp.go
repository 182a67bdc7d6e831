package prober

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// ICMP sends an echo request and waits for the reply: RFC 792, RFC 4443 section
// 4. Its settings and metrics are those of blackbox_exporter's icmp prober.
//
// There is no exchange that could follow a connection: all that a ping asks is
// whether the target is reached, so what fails is the phase connect.
type ICMP struct {
	dial.Resolution
	// SourceAddress is the address of this host to send from; the zero value lets
	// the kernel choose.
	SourceAddress netip.Addr
	// PayloadSize is the length of the data, in bytes; 0 is that of [echoText].
	PayloadSize int
	// DontFragment sends IPv4 packets that no router may fragment.
	DontFragment bool
	// TTL is how many routers may forward the packet; 0 is the kernel's default.
	TTL int
}

// echoText is the data of a request, or how it begins.
const echoText = "Prometheus Blackbox Exporter"

// maxEchoPayload is what an IPv4 packet has room for: 65535 bytes without the
// headers of IP and ICMP.
const maxEchoPayload = 65507

// The metrics of the icmp prober. Names, help and values are those of
// blackbox_exporter.
var (
	icmpDuration = &probe.Metric{Name: "probe_icmp_duration_seconds", Help: "Duration of icmp request by phase", Labels: []string{"phase"}}
	icmpHopLimit = &probe.Metric{Name: "probe_icmp_reply_hop_limit", Help: "Replied packet hop limit (TTL for ipv4)"}

	phaseSetup = []string{"setup"}
	phaseRTT   = []string{"rtt"}
)

func icmpMetrics() []*probe.Metric { return []*probe.Metric{icmpDuration, icmpHopLimit} }

// Misconfigured returns why every probe with the module fails, or nil.
func (p *ICMP) Misconfigured() error {
	if p.PayloadSize < 0 || p.PayloadSize > maxEchoPayload {
		return fmt.Errorf("payload_size: no packet has room for %d bytes\nhint: it may have %d", p.PayloadSize, maxEchoPayload)
	}
	return nil
}

// Probe implements [probe.Prober].
func (p *ICMP) Probe(ctx context.Context, r probe.Request) probe.Result {
	found := probe.NewSamples()
	for _, phase := range [][]string{probe.PhaseResolve.Labels(), phaseSetup, phaseRTT} {
		found.Set(icmpDuration, 0, phase...)
	}
	if err := p.Misconfigured(); err != nil {
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err, Samples: found}
	}
	_, addrs, failed := p.Targets(ctx, probe.KindICMP, "", &r, icmpDuration, &found)
	noteLookupAs(icmpDuration, &found)
	if failed != nil {
		failed.Samples = found
		return *failed
	}
	e := &echo{ICMP: p, from: source(&r, p.SourceAddress), device: r.Device, netns: probe.NetnsOf(ctx), to: addrs[0].Addr(), samples: found, allow: r.Allow}
	err := e.run(ctx)
	result := probe.Result{}
	if err != nil {
		if ctx.Err() != nil && dial.IsTimeout(err) {
			err = ctx.Err() // it may have been given up rather than have timed out
		}
		result = e.classify(err)
	}
	result.Peer, result.Samples = addrs[0], e.samples
	dial.NameOther(&result, addrs)
	return result
}

// echo is one ping.
type echo struct {
	*ICMP
	from, to netip.Addr // from may be the zero value
	device   string     // [probe.Request].Device
	netns    probe.Netns
	samples  probe.Samples
	allow    func(netip.AddrPort) error

	id, sequence uint16
	data         []byte
	socket       *pingSocket
}

// maxSends bounds how often a packet is sent that a router found too large.
const maxSends = 3

// run sends, and waits for the reply until ctx ends.
func (e *echo) run(ctx context.Context) error {
	began := time.Now()
	if e.allow != nil {
		if err := e.allow(netip.AddrPortFrom(e.to, 0)); err != nil {
			return probe.Deny(err)
		}
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // it never fails
	e.id, e.sequence = binary.BigEndian.Uint16(id[:]), binary.BigEndian.Uint16(id[2:])
	e.data = e.payload()
	var err error
	if e.socket, err = openPing(ctx, e.from, e.device, e.to, e.ICMP); err != nil {
		return err
	}
	defer e.socket.Close()
	deadline, _ := ctx.Deadline()
	_ = e.socket.SetReadDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = e.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	e.samples.Set(icmpDuration, time.Since(began).Seconds(), phaseSetup...)
	return e.exchange()
}

func (e *echo) payload() []byte {
	if e.PayloadSize == 0 {
		return []byte(echoText)
	}
	data := make([]byte, e.PayloadSize)
	copy(data, echoText)
	return data
}

// exchange sends and receives. A packet that is too large is sent again where it
// may be fragmented: the kernel has learned the MTU of the path, and fragments it.
func (e *echo) exchange() error {
	packet, err := e.request()
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		start := time.Now()
		if err = e.socket.send(packet); err == nil {
			err = e.receive(start)
		}
		large, ok := errors.AsType[*probe.TooLargeError](err)
		if !ok || e.DontFragment || n == maxSends {
			if ok {
				large.Size = len(packet) + e.headerSize()
			}
			return err
		}
	}
}

// headerSize is what the MTU counts beside the message of ICMP.
func (e *echo) headerSize() int {
	if e.to.Is6() {
		return ipv6.HeaderLen
	}
	return ipv4.HeaderLen
}

func (e *echo) request() ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(e.id), Seq: int(e.sequence), Data: e.data}}
	if e.to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	return m.Marshal(nil)
}

// receive waits for the reply to what was sent at a time.
func (e *echo) receive(sent time.Time) error {
	b := make([]byte, len(e.data)+replyOverhead)
	for {
		n, hopLimit, err := e.socket.receive(b)
		if report, ok := errors.AsType[*icmpReport](err); ok && !e.isAbout(report.quoted) {
			continue // another program's packet to the same target
		}
		if err != nil {
			return err
		}
		if !e.isReply(b[:n]) {
			continue
		}
		e.samples.Set(icmpDuration, time.Since(sent).Seconds(), phaseRTT...)
		if hopLimit >= 0 {
			e.samples.Set(icmpHopLimit, float64(hopLimit))
		}
		return nil
	}
}

// replyOverhead is the headers of a reply, with all options that IPv4 may have.
const replyOverhead = 60 + 8

// isReply reports whether a message is the reply to our request. The id of an
// unprivileged socket is the kernel's, which lets no other through.
func (e *echo) isReply(b []byte) bool {
	protocol, want := 1, icmp.Type(ipv4.ICMPTypeEchoReply)
	if e.to.Is6() {
		protocol, want = 58, ipv6.ICMPTypeEchoReply
	}
	m, err := icmp.ParseMessage(protocol, b)
	if err != nil || m.Type != want {
		return false
	}
	reply, ok := m.Body.(*icmp.Echo)
	return ok && reply.Seq == int(e.sequence) && (e.socket.kernelID || reply.ID == int(e.id)) && bytes.Equal(reply.Data, e.data)
}

// isAbout reports whether an ICMP error quotes our request. Without a quote it is
// the kernel that says so.
func (e *echo) isAbout(quoted []byte) bool {
	const echoHeader = 8
	if e.socket.kernelID || len(quoted) < echoHeader {
		return true
	}
	return binary.BigEndian.Uint16(quoted[4:]) == e.id && binary.BigEndian.Uint16(quoted[6:]) == e.sequence
}

// icmpReport is an ICMP error as an error.
type icmpReport struct {
	probe.ICMPError
	quoted []byte // how the packet that caused it began, from the header of ICMP on
}

func (e *icmpReport) Error() string {
	return fmt.Sprintf("%s reports: %s", e.Offender, e.ICMPError)
}

// openError says that there is no socket to ping with.
type openError struct{ err error }

func (e *openError) Error() string { return e.err.Error() }
func (e *openError) Unwrap() error { return e.err }

// classify says what ended a ping.
func (e *echo) classify(err error) probe.Result {
	r := probe.Result{Phase: probe.PhaseConnect, Err: err}
	report, isReport := errors.AsType[*icmpReport](err)
	large, isLarge := errors.AsType[*probe.TooLargeError](err)
	_, isOpen := errors.AsType[*openError](err)
	switch {
	case isOpen:
		r.Phase, r.Outcome, r.Origin = probe.PhaseNone, probe.LocalError, probe.OriginLocal
	case isLarge:
		r.Outcome, r.Origin, r.ICMP = probe.Mismatch, probe.OriginNetwork, large.ICMP
		if !large.ICMP.Offender.IsValid() || dial.IsOwn(e.netns, large.ICMP.Offender) {
			r.Origin = probe.OriginLocal
		}
	case isReport:
		about := dial.Evidence{ICMP: report.ICMPError, Target: e.to, Own: dial.IsOwn(e.netns, report.Offender)}
		r.Outcome, r.Origin, r.ICMP = report.Outcome(), about.Origin(), report.ICMPError
	default:
		r.Outcome, r.Origin = dial.Classify(err, dial.Evidence{Target: e.to})
	}
	return r
}

// isPermission reports whether an error says that a socket needs a privilege.
func isPermission(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EACCES)
}
