package verdict

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// sentence says in words what a code means for this target. It has no full stop.
func (f *Facts) sentence(c Code) string {
	r := f.Result
	address := f.address()
	if f.Sent != nil && c != Open {
		address = fmt.Sprintf("%s (sent to %s by a rule of this host, %s)", address, f.Sent.To, f.Sent.Where)
	}
	if open := f.othersOpen(c); open != "" {
		return fmt.Sprintf("%s; %s", f.about(c, fmt.Sprintf("%s at %s", address, r.Peer.Addr())), open)
	}
	switch {
	case c == ProxyFails:
		return fmt.Sprintf("%s was not reached: the proxy %s %s", address, r.Proxy, f.proxyFault())
	case r.Redirect != "" && r.Outcome != probe.Open:
		return fmt.Sprintf("%s redirects to %s: %s", address, r.Redirect, f.about(c, r.Redirect))
	default:
		return f.about(c, address)
	}
}

// othersOpen says which other addresses of the name answer, where a connection to this
// one failed; empty if none does, or the sentence says so.
func (f *Facts) othersOpen(c Code) string {
	var open []string
	for _, o := range f.Others {
		if o.Outcome == probe.Open {
			open = append(open, o.Address.String())
		}
	}
	r := f.Result
	switch {
	case len(open) == 0 || c == Open || c == OneFamily || c == ProxyFails || r.Phase != probe.PhaseConnect || r.Redirect != "" || !r.Peer.IsValid():
		return ""
	case len(open) == 1:
		return open[0] + " answers"
	case len(open) == 2:
		return open[0] + " and " + open[1] + " answer"
	default:
		return fmt.Sprintf("%s and %d others answer", open[0], len(open)-1)
	}
}

// about says what a code means for the URL or address that it is about.
func (f *Facts) about(c Code, address string) string {
	switch c.Place() {
	case Nowhere:
		return f.open(address)
	case Here:
		return f.here(c, address)
	case OnTheWay:
		return f.onTheWay(c, address)
	case There:
		return f.there(c, address)
	case NameService:
		return f.nameService(c, address)
	default:
		return f.undecided(c, address)
	}
}

func (f *Facts) open(address string) string {
	text := address + " is open"
	switch f.kind() {
	case probe.KindICMP:
		text = address + " answers pings"
		if rtt, ok := f.sample("probe_icmp_duration_seconds", "rtt"); ok {
			text += " in " + milliseconds(rtt)
		}
	case probe.KindHTTP, probe.KindGRPC, probe.KindDNS, probe.KindUDP, probe.KindSTUN:
		text = address + " answers as expected"
	}
	if f.Listener != nil && f.Listener.Full() {
		text += ", but " + f.Listener.Listener.FullQueues()
	}
	return text
}

// here is about this host.
func (f *Facts) here(c Code, address string) string {
	switch c {
	case NotListening:
		if probe.IsPath(f.Target.Address) {
			return address + " refuses: nothing listens there"
		}
		return fmt.Sprintf("%s refuses: nothing listens on %s port %d of this host", address, f.Listener.Protocol, f.Listener.To.Port())
	case LoopbackOnly:
		return fmt.Sprintf("%s refuses: %s accepts loopback only, on %s", address, f.listener(), f.Listener.Place())
	case OtherAddress:
		if f.ofOtherFamily() {
			return fmt.Sprintf("%s refuses: %s accepts %s only, on %s", address, f.listener(), version(f.Listener.Listener.Address), f.Listener.Place())
		}
		return fmt.Sprintf("%s refuses: %s accepts another address only, %s", address, f.listener(), f.Listener.Place())
	case QueueFull:
		return fmt.Sprintf("%s does not take the connection: %s", address, f.fullQueue())
	case BadAddress:
		if f.isBroadcast() {
			return address + " is not the address of a host: it is the broadcast address of a network of this host"
		}
		return address + " " + hereWords(c)
	case LocalRejects:
		if f.Rule == nil && f.listenerTakes() && !f.Result.ICMP.Offender.IsValid() {
			return fmt.Sprintf("%s refuses, and %s listens there with room in its queue: a firewall rule of this host rejects, or sends it elsewhere", address, f.listener())
		}
		return fmt.Sprintf("%s is rejected by a firewall rule of this host%s", address, f.ruleAndListener())
	case LocalDrops:
		return fmt.Sprintf("%s is dropped by a firewall rule of this host%s", address, f.ruleAndListener())
	case NoEphemeralPort:
		return fmt.Sprintf("%s was not tried: %s", address, f.portsInUse())
	case InterfaceDown:
		return fmt.Sprintf("%s cannot be reached: the interface %s of this host %s", address, f.Route.Device, f.Route.Down)
	case NotTried:
		if f.late() {
			return address + " accepts the connection, and no time was left to use it"
		}
		return address + " " + hereWords(c)
	case NoRoute:
		if f.Device != "" {
			return fmt.Sprintf("%s %s by %s", address, hereWords(c), f.Device)
		}
		return address + " " + hereWords(c)
	case ReversePath:
		return address + " does not answer: the reverse path filter of this host discards packets, as it does with answers that arrive on another interface"
	case NoNamespace:
		return address + " " + f.noNamespace()
	case NoPrivilege:
		if f.Target.Netns != "" && f.entered() == "" {
			return fmt.Sprintf("%s was not tried: to enter network namespace %s requires a privilege", address, f.Target.Netns)
		}
		return address + " " + hereWords(c)
	case ModuleUnusable:
		return fmt.Sprintf("%s was not tried: %s", address, f.obstacle())
	default:
		return address + " " + hereWords(c)
	}
}

// hereWords is what this host does, where no fact adds to it.
func hereWords(c Code) string {
	switch c {
	case NoRoute:
		return "cannot be reached: this host has no route to it"
	case RouteBlackhole:
		return "cannot be reached: a blackhole route of this host discards its packets"
	case RouteUnreachable:
		return "cannot be reached: an unreachable route of this host rejects its packets"
	case RouteProhibits:
		return "is prohibited by a route or rule of this host"
	case NoResources:
		return "was not tried: this host has no file descriptor, no memory, or no address of that family"
	case SourceUnusable:
		return "was not tried: the source address cannot be used here"
	case NoPrivilege:
		return "was not tried: such a socket requires a privilege; a ping may require CAP_NET_RAW"
	case NotAllowed:
		return "was not tried: port_exporter is not allowed to probe it"
	case NotTried:
		return "was not tried: there was no time or no slot"
	case BadAddress:
		return "is not an address that its module takes"
	case SocketMissing:
		return "cannot be reached: there is no such path"
	case SocketForbidden:
		return "cannot be reached: its permissions keep port_exporter out"
	default:
		return "cannot be reached: it is a socket of another type"
	}
}

// obstacle says what of a module cannot be used.
func (f *Facts) obstacle() string {
	_, isFile := errors.AsType[*fs.PathError](f.Result.Err)
	_, isConfig := errors.AsType[*probe.ConfigError](f.Result.Err)
	switch {
	case isFile:
		return "a file that its module names cannot be read"
	case isConfig:
		return "the TLS settings of its module cannot be used"
	default:
		return "this host or its module is not fit for it"
	}
}

func (f *Facts) onTheWay(c Code, address string) string {
	by := f.Result.ICMP.Offender.String()
	switch c {
	case NeighbourDown:
		if f.Route != nil && f.Route.Gateway.IsValid() {
			return fmt.Sprintf("%s cannot be reached: the gateway %s does not answer on %s", address, f.Route.Gateway, f.Route.Device)
		}
		return address + " cannot be reached: the next hop, the host itself or its gateway, does not answer"
	case PathRejects:
		return fmt.Sprintf("%s is rejected on the way by %s (%s)", address, by, f.Result.ICMP)
	case PathNoRoute:
		return fmt.Sprintf("%s cannot be reached: the router %s has no route to it", address, by)
	case RoutingLoop:
		return fmt.Sprintf("%s cannot be reached: a routing loop, which ended at %s", address, by)
	case PathDrops:
		return fmt.Sprintf("%s does not answer: its packets die behind %s, hop %d of the way", address, f.Path.LastHop, f.Path.Hop)
	case PacketTooLarge:
		large, _ := errors.AsType[*probe.TooLargeError](f.Result.Err)
		return fmt.Sprintf("%s was not reached: the packet of %d bytes is larger than the path takes, MTU %d", address, large.Size, large.MTU)
	case MTUBlackHole:
		return fmt.Sprintf("%s accepts connections, and large packets are lost on the way: at most %d bytes pass", address, f.Path.MTU)
	default:
		return fmt.Sprintf("%s cannot be reached: %s on the way reports %s", address, by, f.Result.ICMP)
	}
}

func (f *Facts) there(c Code, address string) string {
	switch c {
	case Refused:
		return address + " refuses: nothing listens there, or a firewall answers in its place"
	case OneFamily:
		open := f.openOther()
		return fmt.Sprintf("%s answers on %s and not on %s: %s answers, %s does not", address, version(open), version(f.Result.Peer.Addr()), open, f.Result.Peer.Addr())
	case TargetRejects:
		return fmt.Sprintf("%s is rejected by a firewall of the target (%s)", address, f.Result.ICMP)
	case HostDown:
		if by := f.Result.ICMP.Offender; by.IsValid() && f.Result.Origin == probe.OriginNetwork {
			return fmt.Sprintf("%s cannot be reached: the host is down or not there, as %s reports", address, by)
		}
		return address + " cannot be reached: the host is down or not there; it does not answer on this network"
	case ServiceSilent:
		return fmt.Sprintf("%s accepts connections and then does not answer in time (%s): the service hangs, or the path loses large packets", address, f.Result.Phase)
	case SilentPort:
		return fmt.Sprintf("%s does not answer, and its host does (%s): a firewall there drops, or the accept queue is full", address, f.Path.Host)
	case CertificateExpired, CertificateNotYet, CertificateName, CertificateUntrusted:
		return fmt.Sprintf("%s is open, and its certificate %s", address, f.certificate(c))
	case TLSFails:
		return address + " is open, and the TLS handshake fails" + f.alert()
	default:
		return address + " " + thereWords(c)
	}
}

// alert returns what the target answers in a handshake, if it does: crypto/tls calls its
// alerts so, RFC 8446 section 6.
func (f *Facts) alert() string {
	if remote, ok := errors.AsType[*net.OpError](f.Result.Err); ok && remote.Op == "remote error" {
		return ": it answers \"" + strings.TrimPrefix(remote.Err.Error(), "tls: ") + "\""
	}
	return ""
}

// thereWords is what the target does, where no fact adds to it.
func thereWords(c Code) string {
	switch c {
	case ConnectionReset:
		return "accepts and then resets the connection"
	case ConnectionClosed:
		return "accepts and then closes the connection before it has answered"
	case ClientCertificate:
		return "is open, and asks for a client certificate"
	case NotTLS:
		return "is open, and does not answer with TLS"
	case UnexpectedStatus:
		return "answers with a status that is not expected"
	case ProtocolError:
		return "answers against the rules of its protocol"
	default:
		return "answers, and not what is expected"
	}
}

func (f *Facts) undecided(c Code, address string) string {
	switch c {
	case NoAnswer:
		return address + " does not answer in time: dropped by a firewall, or the host is down, or the way back is broken"
	case NoReply:
		return address + " does not reply: open or filtered, which UDP cannot distinguish"
	case Unreachable:
		return address + " cannot be reached: no route, a host that is down, or a firewall that says so"
	case Prohibited:
		return address + " is prohibited by a firewall or an access list"
	default:
		return address + " failed in a way that has no name"
	}
}

// listener names the listener of this host by its owner.
func (f *Facts) listener() string {
	if f.Owner != "" {
		return f.Owner
	}
	return "the listener"
}

// fullQueue says whose accept queue is full.
func (f *Facts) fullQueue() string {
	if f.Listener == nil || f.Listener.Listener == nil {
		return "its accept queue is full"
	}
	l := f.Listener.Listener
	if l.Sockets > 1 {
		return fmt.Sprintf("%s does not accept, %s", f.listener(), l.FullQueues())
	}
	return fmt.Sprintf("the accept queue of %s is full (%d of %d)", f.listener(), l.Worst.Length, l.Worst.Limit)
}

func (f *Facts) ruleAndListener() string {
	var text strings.Builder
	if f.Rule != nil {
		fmt.Fprintf(&text, " (%s)", f.Rule.Where)
	}
	if f.Listener != nil && f.Listener.Taken() {
		fmt.Fprintf(&text, ": %s listens there", f.listener())
		if f.listenerTakes() {
			text.WriteString(", and its queue has room")
		}
	}
	return text.String()
}

func (f *Facts) portsInUse() string {
	p := f.Ports
	if p == nil || p.Used < p.Of {
		return "no ephemeral port is left towards it"
	}
	text := fmt.Sprintf("all %d ephemeral ports %d–%d towards it are in use", p.Of, p.First, p.Last)
	if p.By != "" {
		text += ", by " + p.By
	}
	return text
}

// certificate says what is wrong with the certificate of the target.
func (f *Facts) certificate(c Code) string {
	invalid, _ := errors.AsType[x509.CertificateInvalidError](f.Result.Err)
	name, _ := errors.AsType[x509.HostnameError](f.Result.Err)
	switch {
	case c == CertificateExpired && invalid.Cert != nil:
		end := invalid.Cert.NotAfter.UTC()
		return fmt.Sprintf("expired on %s, %s ago (%s)", end.Format(time.DateOnly), days(time.Since(end)), subject(invalid.Cert))
	case c == CertificateNotYet && invalid.Cert != nil:
		start := invalid.Cert.NotBefore.UTC()
		return fmt.Sprintf("is valid only from %s on, in %s (%s)", start.Format(time.DateOnly), days(time.Until(start)), subject(invalid.Cert))
	case c == CertificateName && name.Certificate != nil:
		return fmt.Sprintf("is for %s and not for %s", names(name.Certificate), name.Host)
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](f.Result.Err); ok && unknown.Cert != nil {
		return fmt.Sprintf("is not trusted: its issuer is unknown (%s, issuer CN %s)", subject(unknown.Cert), short(unknown.Cert.Issuer.CommonName))
	}
	return "is not trusted"
}

func subject(c *x509.Certificate) string {
	if c.Subject.CommonName == "" && len(c.DNSNames) > 0 {
		return "name " + short(c.DNSNames[0])
	}
	return "CN " + short(c.Subject.CommonName)
}

// maxName bounds a name that a target chooses, in bytes.
const maxName = 100

// short returns a name, cut where it is long.
func short(name string) string {
	if len(name) <= maxName {
		return name
	}
	return strings.ToValidUTF8(name[:maxName], "") + "…"
}

// names returns the names of a certificate, the first three of them.
func names(c *x509.Certificate) string {
	var all []string
	for _, name := range c.DNSNames {
		all = append(all, short(name))
	}
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	switch {
	case len(all) == 0:
		return subject(c)
	case len(all) > 3:
		return strings.Join(all[:3], ", ") + ", …"
	default:
		return strings.Join(all, ", ")
	}
}

func days(d time.Duration) string {
	switch n := int(d.Hours() / 24); {
	case n == 1:
		return "1 day"
	case n > 1:
		return fmt.Sprintf("%d days", n)
	default:
		return d.Round(time.Minute).String()
	}
}

// proxyFault says what the proxy did in place of reaching the target.
func (f *Facts) proxyFault() string {
	r := f.Result
	if answer, ok := errors.AsType[*probe.ProxyError](r.Err); ok {
		return answer.Text
	}
	switch r.Outcome {
	case probe.Refused:
		return "refuses the connection"
	case probe.Timeout:
		return fmt.Sprintf("does not answer in time (%s)", r.Phase)
	case probe.Unreachable, probe.Prohibited:
		return "cannot be reached"
	case probe.DNSNotFound:
		return "has a name that does not exist"
	case probe.DNSError, probe.DNSTimeout:
		return "has a name that cannot be resolved"
	case probe.TLSCertificate:
		return "has a certificate that is not trusted"
	case probe.TLSHandshake:
		return "fails the TLS handshake"
	case probe.Status:
		return "rejects the request"
	case probe.Reset, probe.Closed:
		return "ends the connection before it answers"
	default:
		return "does not answer as its URL requires"
	}
}

// openOther returns an address of the target's name, of the other version of IP,
// that answers; invalid if there is none.
func (f *Facts) openOther() netip.Addr {
	for _, o := range f.Others {
		if o.Outcome == probe.Open && f.Result.Peer.IsValid() && o.Address.Is4() != f.Result.Peer.Addr().Is4() {
			return o.Address
		}
	}
	return netip.Addr{}
}

func version(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func (f *Facts) kind() string {
	if f.Target.Module == nil {
		return ""
	}
	return f.Target.Module.Kind
}

// sample returns a measurement of the probe with a label.
func (f *Facts) sample(name, label string) (float64, bool) {
	for i := range f.Result.Samples {
		s := &f.Result.Samples[i]
		if s.Metric.Name == name && len(s.Labels) == 1 && s.Labels[0] == label {
			return s.Value, true
		}
	}
	return 0, false
}

// milliseconds returns a time as people say it: 0.4 ms, 12 ms.
func milliseconds(seconds float64) string {
	ms := seconds * 1000
	if ms >= 10 {
		return fmt.Sprintf("%.0f ms", math.Round(ms))
	}
	return fmt.Sprintf("%.1f ms", ms)
}
