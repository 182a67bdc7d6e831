package prober

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
)

// STUN asks a STUN server how it sees our address and port, and so what the
// NATs on the way make of them (RFC 8489). Of a server with a second address it
// also learns how they map and filter (RFC 5780); see natbehaviour.go.
//
// An answer is Open, an error response Status. What is no response to our
// request is discarded, as the protocol requires: Protocol if nothing else
// came, NoReply if nothing came at all.
type STUN struct {
	dial.Resolution
	// SourceAddress is the address of this host that requests come from; the
	// zero value lets the kernel choose.
	SourceAddress netip.Addr
}

// stunSchedule returns when a request is sent, counted from the first: RFC 8489
// section 6.2.1 with its default RTO of 500 ms and Rc of 7.
func stunSchedule() []time.Duration {
	const rto = 500 * time.Millisecond
	return []time.Duration{0, rto, 3 * rto, 7 * rto, 15 * rto, 31 * rto, 63 * rto}
}

// The metrics of the stun prober. Those of the mapping are absent when no server
// reported it.
var (
	stunDuration      = &probe.Metric{Name: "probe_stun_duration_seconds", Help: "Duration of a STUN probe by phase, in seconds.", Labels: []string{"phase"}}
	stunNAT           = &probe.Metric{Name: "probe_stun_nat", Help: "Whether the server sees another address or port than ours (1 or 0)."}
	stunPortPreserved = &probe.Metric{Name: "probe_stun_port_preserved", Help: "Whether the server sees our own source port (1 or 0)."}
	stunMappedPort    = &probe.Metric{Name: "probe_stun_mapped_port", Help: "Source port that the server sees."}
	stunMappingInfo   = &probe.Metric{
		Name:   "probe_stun_mapping_info",
		Help:   "Mapping and filtering behaviour of the NAT; always 1.",
		Labels: []string{"mapping", "filtering"},
	}
)

func stunMetrics() []*probe.Metric {
	return []*probe.Metric{stunDuration, stunNAT, stunPortPreserved, stunMappedPort, stunMappingInfo}
}

// Probe implements [probe.Prober].
func (s *STUN) Probe(ctx context.Context, r probe.Request) probe.Result {
	found := probe.NewSamples()
	result := s.probe(ctx, r, &found)
	result.Samples = found
	return result
}

func (s *STUN) probe(ctx context.Context, r probe.Request, found *probe.Samples) probe.Result {
	_, addrs, failed := s.Targets(ctx, probe.KindSTUN, "", &r, stunDuration, found)
	if failed != nil {
		return *failed
	}
	d := &dial.Datagrams{Target: addrs[0], Source: source(&r, s.SourceAddress), Device: r.Device, Allow: r.Allow}
	failure := func(phase probe.Phase, err error) probe.Result {
		result := d.Failed(phase, err)
		dial.NameOther(&result, addrs)
		return result
	}
	if err := d.Connect(ctx); err != nil {
		return failure(probe.PhaseConnect, err)
	}
	defer d.Conn.Close()

	start := time.Now()
	response, err := bind(ctx, d)
	found.Set(stunDuration, time.Since(start).Seconds(), probe.PhaseExchange.String())
	if err != nil {
		return failure(probe.PhaseExchange, err)
	}
	local := dial.LocalAddr(d.Conn)
	if r.Log != nil {
		r.Log.Debug("mapped", "local", local, "mapped", response.Mapped, "other", response.Other)
	}
	if response.Code != 0 {
		return probe.Result{Outcome: probe.Status, Phase: probe.PhaseExchange, Origin: probe.OriginTarget, Peer: d.Target, Err: fmt.Errorf("stun: error %d", response.Code)}
	}
	found.Set(stunNAT, number(!sameEndpoint(response.Mapped, local)))
	found.Set(stunPortPreserved, number(response.Mapped.Port() == local.Port()))
	found.Set(stunMappedPort, float64(response.Mapped.Port()))
	tests := natTests{local: local.Addr(), server: d.Target, other: response.Other, allow: r.Allow}
	mapping, filtering := tests.run(ctx)
	found.Set(stunMappingInfo, 1, mapping.String(), filtering.String())
	return probe.Result{Outcome: probe.Open, Peer: d.Target}
}

// bind sends a binding request and returns the response to it.
func bind(ctx context.Context, d *dial.Datagrams) (response payload.STUNResponse, err error) {
	id := newTransaction()
	var wrong error
	err = d.Exchange(ctx, payload.STUNRequest(id, payload.STUNChangeNothing), stunSchedule(), func(reply []byte) error {
		if response, wrong = payload.ParseSTUN(reply); wrong == nil && response.Transaction != id {
			wrong = fmt.Errorf("%w: another transaction", payload.ErrNotSTUN)
		}
		if wrong != nil {
			return dial.ErrIgnored
		}
		return nil
	})
	if wrong != nil && (errors.Is(err, dial.ErrNoReply) || errors.Is(err, dial.ErrIgnored)) {
		err = probe.TargetFault(probe.Protocol, wrong)
	}
	return response, err
}

func newTransaction() (id payload.STUNTransaction) {
	_, _ = rand.Read(id[:]) // never fails: it ends the program instead
	return id
}

// sameEndpoint compares addresses without their zones, which no packet carries.
func sameEndpoint(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && netaddr.SameHost(a.Addr(), b.Addr())
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
