package blackbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp/syntax"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// probeDNS hands the prober an address that is allowed, not a name: it would
// look the name up itself, and send at once.
func (p *Prober) probeDNS(ctx context.Context, r probe.Request) probe.Result {
	m := p.module
	host, port, err := splitServer(ctx, r.Address, m.DNS.DNSOverTLS)
	if err != nil {
		result := probe.Malformed(err)
		result.Samples = p.atRest(0)
		return result
	}
	at, took, failed := locate(ctx, r, m.DNS.IPProtocol, m.DNS.IPProtocolFallback, host, port)
	if failed != nil {
		failed.Samples = append(failed.Samples, p.atRest(took)...)
		return *failed
	}
	if m.DNS.DNSOverTLS && m.DNS.TLSConfig.ServerName == "" {
		m.DNS.TLSConfig.ServerName = host
	}
	f := p.execute(ctx, at.String(), &m, r.Log)
	result := resultOfDNS(ctx, &m, f)
	result.Peer = at
	explain(ctx, &m, r, &result)
	result.Samples = samplesOf(f.families)
	setLookup(result.Samples, took)
	return withExpiry(result, f.log.errs)
}

// splitServer reads a target as the prober does.
func splitServer(ctx context.Context, target string, overTLS bool) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(target)
	switch {
	case err == nil:
		port, err = probe.Resolution{}.LookUpPort(ctx, "tcp", service)
		return host, port, err
	case overTLS:
		return target, 853, nil
	default:
		return target, 53, nil
	}
}

func resultOfDNS(ctx context.Context, m *Module, f findings) probe.Result {
	err := f.log.last()
	switch {
	case f.success:
		return probe.Result{}
	case f.panicked != nil:
		return probe.Result{Outcome: probe.Unknown, Err: f.panicked}
	case value(f.families, "probe_dns_query_succeeded") == 1 && err == nil:
		return unexpectedAnswer(m, f.log.response)
	case f.overdue, err == nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil: // what it says without an error is about the module
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: errors.New("the module cannot be used as it is")}
	}
	r := probe.Result{Phase: phaseOfDNS(m, f, err), Err: err}
	r.Outcome, r.Origin = classify(err)
	if _, malformed := errors.AsType[*dns.Error](err); malformed {
		r.Outcome, r.Origin = probe.Protocol, probe.OriginTarget
	}
	if r.Outcome == probe.Timeout && m.DNS.TransportProtocol != "tcp" {
		r.Outcome = probe.NoReply
	}
	return r
}

// explainTime bounds how long [explain] asks again: who refused once does so at
// once.
const explainTime = time.Second

// explain asks once more, with a socket of ours, why there is no way to a server,
// or who refused. The prober makes its own sockets, and one that does not ask for
// ICMP errors has one errno for a host that is down and for what a firewall
// forbids, EHOSTUNREACH, and a refusal says not whose it is. What does not fail
// in such a way again is left as it was.
func explain(ctx context.Context, m *Module, r probe.Request, result *probe.Result) {
	if !isRejection(result.Outcome) {
		return
	}
	source, _ := netip.ParseAddr(m.DNS.SourceIPAddress)
	var again probe.Prober = &probe.TCP{SourceAddress: source, CloseReset: true}
	if m.DNS.TransportProtocol != "tcp" {
		query, err := probe.ParsePayload("dns")
		if err != nil {
			return
		}
		again = &probe.UDP{SourceAddress: source, Payload: query}
	}
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	found := again.Probe(ctx, probe.Request{Address: result.Peer.String(), Allow: r.Allow, Log: r.Log})
	if isRejection(found.Outcome) {
		result.Outcome, result.Origin, result.Offender = found.Outcome, found.Origin, found.Offender
	}
}

// isRejection reports whether an outcome is that of an ICMP error, or of an RST
// to a SYN.
func isRejection(o probe.Outcome) bool {
	return o == probe.Refused || o == probe.Unreachable || o == probe.Prohibited
}

// phaseOfDNS says in which phase an error came.
func phaseOfDNS(m *Module, f findings, err error) probe.Phase {
	op, isOp := errors.AsType[*net.OpError](err)
	_, isRegexp := errors.AsType[*syntax.Error](err)
	switch {
	case isRegexp:
		return probe.PhaseNone
	case isCertificate(err), isTLS(err):
		return probe.PhaseTLS
	case isOp && op.Op == "dial":
		return probe.PhaseConnect
	case !isOp && m.DNS.DNSOverTLS && !f.overdue && errors.Is(err, context.DeadlineExceeded):
		return probe.PhaseTLS // crypto/tls gives the error of its context, a socket one of its own
	default:
		return probe.PhaseExchange
	}
}

// unexpectedAnswer says what is wrong with an answer.
func unexpectedAnswer(m *Module, response *dns.Msg) probe.Result {
	r := probe.Result{Outcome: probe.Mismatch, Phase: probe.PhaseExchange, Origin: probe.OriginTarget}
	r.Err = errors.New("the records are not as the module wants them")
	if response != nil && !isValidRcode(m.DNS.ValidRcodes, response.Rcode) {
		r.Outcome = probe.Status
		r.Err = fmt.Errorf("the rcode is %s", dns.RcodeToString[response.Rcode])
	}
	return r
}

func isValidRcode(valid []string, rcode int) bool {
	if valid == nil {
		return rcode == dns.RcodeSuccess
	}
	return slices.Contains(valid, dns.RcodeToString[rcode])
}

// locate returns the address of a target that is to be probed, and how long it
// took to find; or the result, when there is none or it may not be probed.
func locate(ctx context.Context, r probe.Request, version string, fallback bool, host string, port uint16) (netip.AddrPort, time.Duration, *probe.Result) {
	start := time.Now()
	if err := r.MayResolve(host); err != nil {
		outcome, origin := probe.ClassifyLookup(err)
		return netip.AddrPort{}, 0, &probe.Result{Outcome: outcome, Phase: probe.PhaseResolve, Origin: origin, Err: err}
	}
	addrs, err := Resolution(version, fallback).LookUp(ctx, host)
	took := time.Since(start)
	if err != nil {
		outcome, origin := probe.ClassifyLookup(err)
		return netip.AddrPort{}, took, &probe.Result{Outcome: outcome, Phase: probe.PhaseResolve, Origin: origin, Err: err}
	}
	at := netip.AddrPortFrom(addrs[0], port)
	if r.Allow != nil {
		if err := r.Allow(at); err != nil {
			return at, took, &probe.Result{Outcome: probe.Denied, Phase: probe.PhaseConnect, Origin: probe.OriginLocal, Peer: at, Err: err}
		}
	}
	return at, took, nil
}

// Resolution is how the probers of blackbox_exporter choose an address, by the
// keys preferred_ip_protocol and ip_protocol_fallback: what is not ip6 is ip4,
// except nothing.
func Resolution(version string, fallback bool) probe.Resolution {
	r := probe.Resolution{Prefer: probe.IP4, NoFallback: !fallback}
	if version == "ip6" || version == "" {
		r.Prefer = probe.IP6
	}
	return r
}

// isNoAddress reports whether a name, or an address that stands for itself, has
// none of the version of IP that is asked for.
func isNoAddress(err error) bool {
	_, ok := errors.AsType[*net.AddrError](err)
	return ok
}

// atRest returns the measurements of a probe that does not get as far as its
// target, from the prober itself: it is asked for an address that is not of the
// version that the module has to have.
func (p *Prober) atRest(took time.Duration) []probe.Sample {
	m := p.module
	m.DNS.IPProtocol, m.DNS.IPProtocolFallback = "ip6", false
	m.ICMP.IPProtocol, m.ICMP.IPProtocolFallback = "ip6", false
	f := p.execute(context.Background(), "127.0.0.1", &m, slog.New(slog.DiscardHandler))
	samples := samplesOf(f.families)
	setLookup(samples, took)
	return samples
}
