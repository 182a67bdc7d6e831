package dial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// IPProtocol is a version of IP.
type IPProtocol uint8

// The versions of IP. The zero value is the default of blackbox_exporter.
const (
	IP6 IPProtocol = iota
	IP4
)

// String returns the version as modules name it: ip6, ip4.
func (p IPProtocol) String() string {
	if p == IP4 {
		return "ip4"
	}
	return "ip6"
}

// takes reports whether an address is of this version.
func (p IPProtocol) takes(addr netip.Addr) bool { return addr.Is4() == (p == IP4) }

// Resolution is how the name of a target becomes an address. Its zero value
// prefers IPv6 and falls back to IPv4, with the resolver of the system.
type Resolution struct {
	// Prefer is the version of IP that is taken where a name has both.
	Prefer IPProtocol
	// NoFallback takes no address of the other version.
	NoFallback bool
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
}

// From returns the resolution for a source address: addresses of its version of IP
// only. Without one it is the same.
func (r Resolution) From(source netip.Addr) Resolution {
	if source.IsValid() {
		r.Prefer, r.NoFallback = IP6, true
		if source.Is4() {
			r.Prefer = IP4
		}
	}
	return r
}

// LookUp returns the addresses of a name that may be probed, the preferred ones
// first; at least one if the error is nil. An address is returned as it is. Its
// errors are for classifyLookup.
func (r Resolution) LookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return r.choose(host, []netip.Addr{addr})
	}
	host = probe.ASCIIHost(host)
	if err := probe.CheckHost(host); err != nil {
		return nil, err
	}
	network := "ip"
	if r.NoFallback {
		network = r.Prefer.String()
	}
	l, start := newLookup(r.Resolver), time.Now()
	l.details = probe.DetailsOf(ctx)
	addrs, err := l.addresses(ctx, network, host)
	took := time.Since(start)
	chosen, err := r.chosen(host, addrs, err)
	l.noteEnd(host, chosen, err, took)
	return chosen, err
}

// chosen returns what of the answer of a resolver may be probed.
func (r Resolution) chosen(host string, addrs []netip.Addr, err error) ([]netip.Addr, error) {
	if _, other := errors.AsType[*net.AddrError](err); other { // it has addresses of the other version only, as in /etc/hosts
		return nil, r.noAddress(host)
	}
	if err != nil {
		return nil, err
	}
	return r.choose(host, addrs)
}

func (r Resolution) resolver() *net.Resolver {
	if r.Resolver == nil {
		return net.DefaultResolver
	}
	return r.Resolver
}

// choose puts the preferred addresses first, and leaves the others out where
// there is no falling back. The order is that of the resolver otherwise.
func (r Resolution) choose(host string, addrs []netip.Addr) ([]netip.Addr, error) {
	chosen := make([]netip.Addr, 0, len(addrs))
	for _, preferred := range []bool{true, false} {
		if !preferred && r.NoFallback {
			break
		}
		for _, addr := range addrs {
			if addr = addr.Unmap(); r.Prefer.takes(addr) == preferred {
				chosen = append(chosen, addr)
			}
		}
	}
	if len(chosen) == 0 {
		return nil, r.noAddress(host)
	}
	return chosen, nil
}

func (r Resolution) noAddress(host string) error {
	return &probe.NoAddressError{Err: &net.DNSError{Err: "no address of version " + r.Prefer.String(), Name: host, IsNotFound: true}}
}

// shortageOr returns the shortage of this host that made a look-up fail, or its
// error. The C library has sockets of its own that [lookup] does not see, so the
// only way to learn whether descriptors or ports ran out is to want one.
func shortageOr(err error) error {
	dns, ok := errors.AsType[*net.DNSError](err)
	if !ok || dns.IsNotFound {
		return err
	}
	conn, wantErr := net.Dial("udp", "127.0.0.1:53") // as the resolver does; nothing is sent
	if wantErr == nil {
		_ = conn.Close()
		return err
	}
	if errno, ok := errors.AsType[syscall.Errno](wantErr); ok && probe.IsShortage(errno) {
		return fmt.Errorf("%w: %w", err, errno)
	}
	return err
}

// ClassifyLookup says what the error of a look-up means.
func ClassifyLookup(err error) (probe.Outcome, probe.Origin) {
	if _, ok := errors.AsType[*probe.DeniedError](err); ok {
		return probe.Denied, probe.OriginLocal
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && probe.IsShortage(errno) {
		return probe.LocalError, probe.OriginLocal
	}
	if _, ok := errors.AsType[*net.AddrError](err); ok {
		return probe.Unknown, probe.OriginLocal // not host:port: as Malformed
	}
	if unreached, ok := errors.AsType[*probe.UnreachedError](err); ok {
		if unreached.Local {
			return probe.DNSTimeout, probe.OriginLocal
		}
		return probe.DNSTimeout, probe.OriginNone
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return probe.NotRun, probe.OriginLocal
	case isDNS && dns.IsNotFound:
		return probe.DNSNotFound, probe.OriginNone
	case isDNS && dns.IsTimeout, IsTimeout(err):
		return probe.DNSTimeout, probe.OriginNone
	default:
		return probe.DNSError, probe.OriginNone
	}
}

// FailedLookup returns the result of a lookup that failed.
func FailedLookup(err error) *probe.Result {
	outcome, origin := ClassifyLookup(err)
	return &probe.Result{Outcome: outcome, Phase: probe.PhaseResolve, Origin: origin, Err: err}
}

// Targets resolves the address of a request for a kind of prober, the preferred ones
// first, and notes how long that took, or says what failed. There is at least one.
// The port is taken where the address has none. A source address of the request decides
// the version of IP.
func (r Resolution) Targets(ctx context.Context, kind, port string, of *probe.Request, duration *probe.Metric, into *probe.Samples) (probe.Address, []netip.AddrPort, *probe.Result) {
	start := time.Now()
	to, err := probe.ParseAddress(kind, of.Address)
	if err != nil {
		malformed := probe.Malformed(err)
		malformed.Samples = *into
		return to, nil, malformed
	}
	to.Port = cmp.Or(to.Port, port)
	addrs, err := r.From(of.Source).resolve(ctx, kind, to, of, into)
	into.Set(duration, time.Since(start).Seconds(), probe.PhaseResolve.Labels()...)
	if err != nil {
		failed := FailedLookup(err)
		failed.Samples = *into
		return to, nil, failed
	}
	if of.Log != nil {
		of.Log.Debug("resolved", "address", of.Address, "addresses", addrs)
	}
	return to, addrs, nil
}

// NameOther adds to a result whose address was not reached that the name has an
// address of the other version of IP. The first of addrs was probed.
func NameOther(result *probe.Result, addrs []netip.AddrPort) {
	switch result.Outcome {
	case probe.Refused, probe.Unreachable, probe.Prohibited, probe.NoReply:
	case probe.Timeout:
		if result.Phase != probe.PhaseConnect {
			return
		}
	default:
		return
	}
	first := addrs[0].Addr()
	other := slices.IndexFunc(addrs, func(to netip.AddrPort) bool { return to.Addr().Is4() != first.Is4() })
	if other < 0 {
		return
	}
	version := IP4
	if first.Is4() {
		version = IP6
	}
	result.Err = fmt.Errorf("%w\nhint: the name also has %s, which preferred_ip_protocol: %s probes", result.Err, addrs[other].Addr(), version)
}

// AtPort returns addresses with a port.
func AtPort(addrs []netip.Addr, port uint16) []netip.AddrPort {
	to := make([]netip.AddrPort, len(addrs))
	for i, addr := range addrs {
		to[i] = netip.AddrPortFrom(addr, port)
	}
	return to
}

func networkOfKind(kind string) string {
	if kind == probe.KindUDP || kind == probe.KindSTUN {
		return "udp"
	}
	return "tcp"
}

// resolve looks up host and port of an address, and notes what
// blackbox_exporter does: how long it took, and which address was found first.
func (r Resolution) resolve(ctx context.Context, kind string, to probe.Address, of *probe.Request, into *probe.Samples) ([]netip.AddrPort, error) {
	if err := of.Resolvable(to.Host); err != nil {
		return nil, err
	}
	into.Set(probe.DNSLookupTime, 0)
	into.Address(netip.Addr{})
	var port uint16
	if kind != probe.KindICMP {
		var err error
		if port, err = r.LookUpPort(ctx, networkOfKind(kind), to.Port); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	addrs, err := r.LookUp(ctx, to.Host)
	into.Set(probe.DNSLookupTime, time.Since(start).Seconds())
	if err != nil {
		return nil, err
	}
	into.Address(addrs[0])
	return AtPort(addrs, port), nil
}

// LookUpPort returns the number of a port or of a service's name, from 1 on. Its
// error is for [probe.Malformed].
func (r Resolution) LookUpPort(ctx context.Context, network, service string) (uint16, error) {
	port, err := r.resolver().LookupPort(ctx, network, service)
	unknown, isUnknown := errors.AsType[*net.DNSError](err)
	switch {
	case isUnknown && unknown.IsNotFound: // that is no name which a name server lacks
		return 0, &net.AddrError{Err: "unknown port", Addr: service}
	case err == nil && port == 0: // nothing listens there, nor could it
		return 0, &net.AddrError{Err: "no port", Addr: service}
	default:
		return uint16(port), err
	}
}
