package verdict

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// next returns the one thing to try: a command to type, a setting, or whom to ask.
func (f *Facts) next(c Code) string {
	if f.Sent != nil && f.Sent.Check != "" && c != Open && f.Result.Phase == probe.PhaseConnect {
		return "port_exporter check " + f.Sent.Check
	}
	switch c {
	case NotTried:
		if f.late() {
			return "a longer timeout of the module, or --timeout"
		}
	case BadAddress:
		if f.isBroadcast() {
			return "the address of one host"
		}
	case NoPrivilege:
		if f.Target.Netns != "" && f.entered() == "" {
			return "run as root, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE"
		}
	case InterfaceDown:
		return "ip link show dev " + quoted(f.Route.Device)
	case NotListening, LoopbackOnly, OtherAddress, QueueFull:
		if probe.IsPath(f.Target.Address) {
			return "ss -xlp; start the service that has this socket, or find out why it does not accept"
		}
		return f.nextOfListener(c)
	case LocalRejects, LocalDrops:
		return f.nextOfRule()
	case PathRejects, PathNoRoute, PathUnreachable, RoutingLoop:
		return fmt.Sprintf("ask who runs %s", f.Result.ICMP.Offender)
	case ProxyFails:
		return fmt.Sprintf("look at the proxy %s, or correct proxy_url of the module", f.Result.Proxy)
	case HostDown:
		if f.Result.Origin == probe.OriginNetwork && f.Result.ICMP.Offender.IsValid() {
			return fmt.Sprintf("%s; else ask who runs %s", Of(c).Next, f.Result.ICMP.Offender)
		}
	case PathDrops:
		return fmt.Sprintf("ask who runs %s, or the hop behind it", f.Path.LastHop)
	case NameNotFound:
		if f.Names.Alias != "" {
			return fmt.Sprintf("correct the CNAME record of %s, or add %s", quoted(f.Names.Alias), quoted(f.Names.Missing))
		}
	case NameServerSilent, NameServerUnreached:
		return f.nextOfServers(c)
	case TargetRejects:
		return fmt.Sprintf("on the target: nft list ruleset; allow %s there", f.port())
	default:
	}
	return f.fill(Of(c).Next)
}

func (f *Facts) nextOfListener(c Code) string {
	to := f.Listener.To
	switch c {
	case NotListening:
		return "start the service, or correct the port; port_exporter listeners shows what listens here"
	case QueueFull:
		return fmt.Sprintf("ss -ltn 'sport = :%d'; find out why %s does not accept", to.Port(), f.listener())
	case LoopbackOnly:
		return fmt.Sprintf("bind %s to %s or to every address, or connect to %s", f.listener(), to.Addr(), f.Listener.Place())
	default:
		if f.ofOtherFamily() {
			return fmt.Sprintf("bind %s to %s too, or connect by %s", f.listener(), to.Addr(), version(f.Listener.Listener.Address))
		}
		return fmt.Sprintf("bind %s to %s, or connect to %s", f.listener(), to.Addr(), f.Listener.Place())
	}
}

func (f *Facts) nextOfRule() string {
	if f.Rule == nil {
		return "nft list ruleset, and look for the rule on " + f.port()
	}
	fields := strings.Fields(f.Rule.Where) // family, table, chain
	if len(fields) < 3 {
		return "nft list ruleset"
	}
	return fmt.Sprintf("nft -a list chain %s", strings.Join(fields[:3], " "))
}

// port names the port that was tried, as in "tcp port 80".
func (f *Facts) port() string {
	protocol := "tcp"
	switch f.kind() {
	case probe.KindUDP, probe.KindSTUN:
		protocol = "udp"
	}
	if !f.Result.Peer.IsValid() || f.Result.Peer.Port() == 0 {
		return "this target"
	}
	return protocol + " port " + strconv.Itoa(int(f.Result.Peer.Port()))
}

// fill puts the target's address and name into a command. A redirect or an alias may have
// chosen the name.
func (f *Facts) fill(text string) string {
	name := nameOf(f.Result.Err)
	if name == "" {
		name = f.host()
	}
	target := quoted(f.Target.Redacted())
	by := ""
	if f.Device != "" {
		by = " oif " + quoted(f.Device)
	}
	return strings.NewReplacer(
		"check --trace TARGET", "check --trace "+target, "check --debug TARGET", "check --debug "+target,
		"ip route get TARGET", "ip route get "+quoted(f.peer())+by, "TARGET", quoted(f.peer()), "NAME", quoted(name),
	).Replace(text)
}

// quoted returns a word of a command as a shell takes it for what it is: it is copied from
// a page or a terminal.
func quoted(word string) string {
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/@%+,=[]"
	if strings.Trim(word, harmless) == "" && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// peer returns the address that was tried, for a command.
func (f *Facts) peer() string {
	if f.Result.Peer.IsValid() && f.Result.Peer.Addr() != (netip.Addr{}) {
		return f.Result.Peer.Addr().WithZone("").String()
	}
	return f.host()
}

// host returns the host that the probe was about: that of the target, or of the URL that
// it redirects to.
func (f *Facts) host() string {
	address := cmp.Or(f.Result.Redirect, f.Target.Address)
	if probe.IsURL(address) || probe.IsWebSocket(address) {
		if u, err := url.Parse(address); err == nil {
			return u.Hostname()
		}
	}
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return probe.Redact(address, address)
}
