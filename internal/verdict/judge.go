package verdict

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/route"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// This file has the rules: which fact decides. Texts of errors are never looked at.

// Verdict is why a target cannot be reached.
type Verdict struct {
	Code     Code
	Place    Place
	Sentence string // without its full stop
	Next     string // one thing to try: a command, a setting, or whom to ask; empty if open
}

// Judge returns the verdict on what is known.
func Judge(f *Facts) Verdict {
	c := CodeOf(f)
	return f.inNetns(Verdict{c, c.Place(), f.sentence(c), f.next(c)})
}

// CodeOf returns the code alone, which is cheaper than [Judge].
func CodeOf(f *Facts) Code {
	r := f.Result
	refused, isRefused := errors.AsType[*probe.NetnsError](r.Err)
	switch {
	case r.Outcome == probe.Open:
		return Open
	case isRefused:
		return ofNetns(refused)
	case r.Origin == probe.OriginProxy:
		return ProxyFails
	case probe.IsPath(f.Target.Address) && r.Phase == probe.PhaseConnect && r.Redirect == "":
		return f.ofPath()
	}
	c := f.ofOutcome()
	if f.oneFamily(c) {
		return OneFamily
	}
	return c
}

// ofNetns is about a network namespace that was not entered.
func ofNetns(err *probe.NetnsError) Code {
	if errors.Is(err, fs.ErrPermission) {
		return NoPrivilege
	}
	return NoNamespace
}

// oneFamily reports whether an address of the other version of IP is open where this
// one is not listened on.
func (f *Facts) oneFamily(c Code) bool {
	switch c {
	case Refused, OtherAddress, NotListening, LoopbackOnly:
	default:
		return false
	}
	return f.openOther().IsValid()
}

func (f *Facts) ofOutcome() Code {
	r := f.Result
	switch r.Outcome {
	case probe.Refused:
		return f.ofRefusal()
	case probe.Timeout:
		return f.ofSilence()
	case probe.Unreachable:
		return f.ofUnreachable()
	case probe.Prohibited:
		return f.ofProhibition()
	case probe.Reset:
		return ConnectionReset
	case probe.Closed:
		return ConnectionClosed
	case probe.DNSNotFound, probe.DNSError, probe.DNSTimeout:
		return f.ofName()
	case probe.TLSCertificate:
		return ofCertificate(r.Err)
	case probe.TLSHandshake:
		return ofHandshake(r.Err)
	case probe.Mismatch:
		if _, ok := errors.AsType[*probe.TooLargeError](r.Err); ok {
			return PacketTooLarge
		}
		return UnexpectedAnswer
	case probe.Status:
		return UnexpectedStatus
	case probe.Protocol:
		return ProtocolError
	case probe.NoReply:
		return f.ofNoReply()
	case probe.LocalError:
		return f.ofLocalError()
	case probe.Denied:
		return f.ofDenial()
	case probe.NotRun:
		return NotTried
	default:
		if r.Origin == probe.OriginLocal && r.Phase == probe.PhaseResolve {
			return BadAddress
		}
		return Unexplained
	}
}

func (f *Facts) ofRefusal() Code {
	switch f.Result.Origin {
	case probe.OriginTargetFirewall:
		if f.Listener != nil { // the target is this host
			return LocalRejects
		}
		return TargetRejects
	case probe.OriginNetwork:
		return PathRejects
	case probe.OriginLocal:
		return LocalRejects
	default:
		return f.ofReset()
	}
}

// ofReset is about an RST, or a port unreachable whose sender is unknown. From a
// listener that takes the address, it is the work of a rule.
func (f *Facts) ofReset() Code {
	switch {
	case f.Listener != nil && f.Listener.Full(): // net.ipv4.tcp_abort_on_overflow
		return QueueFull
	case f.Rule != nil && !f.Rule.Drops, f.listenerTakes():
		return LocalRejects
	case f.Listener == nil:
		return Refused
	}
	switch f.Listener.Standing {
	case socket.LoopbackOnly:
		return LoopbackOnly
	case socket.OtherAddress:
		return OtherAddress
	default:
		return NotListening
	}
}

func (f *Facts) ofSilence() Code {
	r := f.Result
	switch {
	case r.Phase == probe.PhaseTLS || r.Phase == probe.PhaseExchange:
		if f.Path != nil && f.Path.BlackHole {
			return MTUBlackHole
		}
		return ServiceSilent
	case f.late():
		return NotTried
	case f.Listener != nil && f.Listener.Full():
		return QueueFull
	case f.interfaceDown():
		return InterfaceDown
	case f.Listener != nil, f.Rule != nil && f.Rule.Drops, f.Unsent: // a host resets what nothing listens for
		return LocalDrops
	case f.Route != nil && f.Route.Assumed:
		return NoRoute
	case f.neighbourSilent():
		return f.ofNeighbour()
	case f.Reversed:
		return ReversePath
	case f.Path != nil && f.Path.Host != "":
		return SilentPort
	case f.Path != nil && f.Path.LastHop.IsValid():
		return PathDrops
	default:
		return NoAnswer
	}
}

// ofNoReply is about UDP, where a service may keep silent.
func (f *Facts) ofNoReply() Code {
	switch {
	case f.interfaceDown():
		return InterfaceDown
	case f.Rule != nil && f.Rule.Drops, f.Listener != nil && !f.Listener.Taken():
		return LocalDrops // without a listener the kernel reports it
	case f.Path != nil && f.Path.Host == "" && f.Path.LastHop.IsValid():
		return PathDrops
	default:
		return NoReply
	}
}

func (f *Facts) ofUnreachable() Code {
	r := f.Result
	icmp := &r.ICMP
	switch {
	case r.Origin == probe.OriginLocal && !icmp.Offender.IsValid():
		return f.ofRoute()
	case r.Origin == probe.OriginLocal:
		return f.ofNeighbour()
	case r.Origin == probe.OriginTargetFirewall:
		return TargetRejects
	case !icmp.Offender.IsValid():
		return Unreachable
	case icmp.TimeExceeded():
		return RoutingLoop
	case icmp.NoNetwork():
		return PathNoRoute
	case icmp.NoHost():
		return HostDown
	default:
		return PathUnreachable
	}
}

// ofRoute is about an error before a packet was sent.
func (f *Facts) ofRoute() Code {
	if f.Source.IsLoopback() && !f.Result.Peer.Addr().IsLoopback() && errors.Is(f.Result.Err, syscall.EINVAL) { // no packet from loopback leaves the host
		return SourceUnusable
	}
	if f.Route != nil {
		if c := ofRouteType(f.Route.Type); c != NoRoute {
			return c
		}
	}
	kind, _ := route.TypeOf(f.Result.Err)
	return ofRouteType(kind)
}

func ofRouteType(kind string) Code {
	switch kind {
	case route.Blackhole:
		return RouteBlackhole
	case route.Unreachable:
		return RouteUnreachable
	case route.Prohibit:
		return RouteProhibits
	case route.Broadcast, route.Multicast:
		return BadAddress
	default:
		return NoRoute
	}
}

// neighbourWait is less than the kernel waits for a neighbour, which is three seconds, and
// more than a rule takes to reject. Whom it waited for in vain it may have forgotten since.
const neighbourWait = 2500 * time.Millisecond

// ofNeighbour is about "host unreachable" from this host itself: no neighbour answers,
// or a rule rejects with that code, which is rare. That it took no time does not say: the
// kernel may have asked already (arp(7), mcast_solicit).
func (f *Facts) ofNeighbour() Code {
	known := f.Route != nil && f.Route.Neighbour != ""
	forgotten := known && f.Route.Neighbour == "none" && f.Result.Duration >= neighbourWait
	failed := f.neighbourSilent() || forgotten
	switch {
	case f.interfaceDown():
		return InterfaceDown
	case known && !failed:
		return LocalRejects
	case failed && f.Route.Assumed:
		return NoRoute
	case failed && !f.Route.Gateway.IsValid():
		return HostDown
	default:
		return NeighbourDown
	}
}

func (f *Facts) ofProhibition() Code {
	switch f.Result.Origin {
	case probe.OriginTargetFirewall:
		if f.Listener != nil {
			return LocalRejects
		}
		return TargetRejects
	case probe.OriginNetwork:
		return PathRejects
	case probe.OriginLocal:
		switch {
		case f.Result.ICMP.Offender.IsValid():
			return LocalRejects
		case errors.Is(f.Result.Err, syscall.EPERM): // a hook of the firewall, nf_hook_slow
			return LocalDrops
		case f.isBroadcast(): // without SO_BROADCAST
			return BadAddress
		default:
			return RouteProhibits
		}
	default:
		return Prohibited
	}
}

// ofPath is about connecting to a unix-domain socket, without a network.
func (f *Facts) ofPath() Code {
	switch f.Result.Outcome {
	case probe.Refused:
		return NotListening
	case probe.Unreachable:
		return SocketMissing
	case probe.Prohibited:
		return SocketForbidden
	case probe.Protocol:
		return SocketType
	case probe.Timeout:
		return QueueFull
	default:
		return f.ofOutcome()
	}
}

func (f *Facts) ofName() Code {
	r := f.Result
	_, unreached := errors.AsType[*probe.UnreachedError](r.Err)
	_, isFamily := errors.AsType[*probe.NoAddressError](r.Err)
	switch {
	case r.Outcome == probe.DNSNotFound && isFamily:
		return NoAddressOfFamily
	case r.Outcome == probe.DNSNotFound:
		return NameNotFound
	case r.Outcome == probe.DNSError:
		return NameServerFails
	case unreached:
		return NameServerUnreached
	default:
		return NameServerSilent
	}
}

// ofDenial distinguishes a name that is blocked from an address that may not be probed.
func (f *Facts) ofDenial() Code {
	_, err := netip.ParseAddr(f.host())
	if denied, ok := probe.AsDenied(f.Result.Err); ok && denied.NoHost && err != nil {
		return NameBlocked
	}
	return NotAllowed
}

func ofCertificate(err error) Code {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		if invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore) {
			return CertificateNotYet
		}
		return CertificateExpired
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return CertificateName
	}
	return CertificateUntrusted
}

func ofHandshake(err error) Code {
	if _, ok := errors.AsType[*probe.NoClientCertificateError](err); ok {
		return ClientCertificate
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return NotTLS
	}
	return TLSFails
}

// ofLocalError says what on this host kept the probe from trying.
func (f *Facts) ofLocalError() Code {
	err := f.Result.Err
	call, isCall := errors.AsType[*os.SyscallError](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	_, isFile := errors.AsType[*fs.PathError](err)
	_, isVersion := errors.AsType[*net.AddrError](err)
	switch {
	case isVersion, isCall && call.Syscall == "bind" && errno != syscall.EADDRINUSE:
		return SourceUnusable
	case isErrno && probe.IsNoPort(errno) && f.mayLackPorts():
		return NoEphemeralPort
	case isErrno && probe.IsNoPort(errno) && f.Route != nil && f.Route.Type == route.None: // it has no address of that version of IP
		return NoRoute
	case isErrno && probe.IsShortage(errno):
		return NoResources
	case isFile:
		return ModuleUnusable
	case errors.Is(err, fs.ErrPermission):
		return NoPrivilege
	default:
		return ModuleUnusable
	}
}

// mayLackPorts reports whether it is the ports that this host lacks: without an IPv6
// address connect(2) fails in the same way.
func (f *Facts) mayLackPorts() bool {
	if f.Ports != nil {
		return f.Ports.Used >= f.Ports.Of
	}
	return f.Result.Peer.Addr().Is4()
}
