package verdict

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/route"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	us     = netip.MustParseAddr("192.0.2.1")
	router = netip.MustParseAddr("192.0.2.254")
	peer   = netip.MustParseAddrPort("198.51.100.1:80")
)

// failed is a result of connecting.
func failed(o probe.Outcome, by probe.Origin, err error) probe.Result {
	return probe.Result{Outcome: o, Phase: probe.PhaseConnect, Origin: by, Peer: peer, Err: err}
}

// reported is one that an ICMP error ended.
func reported(o probe.Outcome, by probe.Origin, icmp probe.ICMPError, took time.Duration) probe.Result {
	r := failed(o, by, errors.New("icmp"))
	r.ICMP, r.Duration = icmp, took
	return r
}

func icmp4(by netip.Addr, kind, code uint8) probe.ICMPError {
	return probe.ICMPError{Offender: by, Type: kind, Code: code}
}

func inPhase(r probe.Result, p probe.Phase) probe.Result { r.Phase = p; return r }

// listener is what the listeners of this host say.
func listener(s socket.Standing) *socket.Answer {
	l := &socket.Listener{ListenerID: socket.ListenerID{Address: netip.MustParseAddr("127.0.0.1"), Port: 80}, Sockets: 1}
	l.Worst.Length, l.Worst.Limit = 6, 5
	if s == socket.NotListening {
		l = nil
	}
	return &socket.Answer{Standing: s, Protocol: socket.TCP, To: peer, Listener: l}
}

func bind(e syscall.Errno) error    { return os.NewSyscallError("bind", e) }
func connect(e syscall.Errno) error { return os.NewSyscallError("connect", e) }

// everyIPv6 is a listener on every address of IPv6, asked by IPv4.
func everyIPv6() *socket.Answer {
	l := listener(socket.OtherAddress)
	l.Listener.Address, l.Listener.Scope = netip.IPv6Unspecified(), socket.ScopeAny
	return l
}

func sent() *Sent { return &Sent{"10.0.0.2:8080", "ip nat DOCKER handle 9", "10.0.0.2:8080"} }

type situation struct {
	name     string
	facts    Facts
	result   probe.Result
	want     Code
	sentence string // is in it
	next     string // is in it
}

func localCases() []situation {
	refused := failed(probe.Refused, probe.OriginTarget, connect(syscall.ECONNREFUSED))
	silence := failed(probe.Timeout, probe.OriginNone, os.ErrDeadlineExceeded)
	nginx := "nginx (pid 7, nginx.service)"
	routed := func(e syscall.Errno) probe.Result {
		return failed(probe.Unreachable, probe.OriginLocal, connect(e))
	}
	down := reported(probe.Unreachable, probe.OriginLocal, icmp4(us, 3, 1), 3*time.Second)
	return []situation{
		{"nothing listens", Facts{Listener: listener(socket.NotListening)}, refused, NotListening, "nothing listens on tcp port 80 of this host", "start the service"},
		{"loopback only", Facts{Listener: listener(socket.LoopbackOnly), Owner: nginx}, refused, LoopbackOnly, nginx + " accepts loopback only, on 127.0.0.1:80", "bind nginx"},
		{"another address", Facts{Listener: listener(socket.OtherAddress)}, refused, OtherAddress, "another address", "connect to 127.0.0.1:80"},
		{"a listener and an RST", Facts{Listener: listener(socket.Listens), Owner: nginx}, refused, LocalRejects, "refuses, and " + nginx + " listens there with room in its queue: a firewall rule of this host rejects, or sends it elsewhere", "nft list ruleset"},
		{"a listener, an RST, and the rule", Facts{Listener: listener(socket.Listens), Owner: nginx, Rule: &Rule{false, "ip f input handle 3"}}, refused, LocalRejects, "(ip f input handle 3): " + nginx + " listens there, and its queue has room", "nft -a list chain ip f input"},
		{"every address of the other family", Facts{Listener: everyIPv6(), Owner: nginx}, refused, OtherAddress, nginx + " accepts IPv6 only, on [::]:80", "or connect by IPv6"},
		{"a rule sends it to a port that is closed", Facts{Sent: sent()}, refused, Refused, "(sent to 10.0.0.2:8080 by a rule of this host, ip nat DOCKER handle 9) refuses", "port_exporter check 10.0.0.2:8080"},
		{"a rule sends it to silence", Facts{Sent: sent()}, silence, NoAnswer, "(sent to 10.0.0.2:8080 by a rule of this host, ip nat DOCKER handle 9) does not answer", "port_exporter check 10.0.0.2:8080"},
		{"a broadcast address", Facts{Route: &route.Route{Type: "broadcast", Device: "eth0"}}, routed(syscall.ENETUNREACH), BadAddress, "broadcast address", "the address of one host"},
		{"a broadcast address, UDP", Facts{Route: &route.Route{Type: "broadcast", Device: "eth0"}}, failed(probe.Prohibited, probe.OriginLocal, connect(syscall.EACCES)), BadAddress, "broadcast address", ""},
		{"lo is down", Facts{Listener: listener(socket.NotListening), Route: &route.Route{Type: "local", Device: "lo", Down: "is down"}}, silence, InterfaceDown, "the interface lo of this host is down", "ip link show dev lo"},
		{"no carrier", Facts{Route: &route.Route{Type: "unicast", Gateway: router, Device: "eth0", Neighbour: "failed", Down: "has no carrier"}}, down, InterfaceDown, "the interface eth0 of this host has no carrier", "ip link show dev eth0"},
		{"no route by a device, and silence", Facts{Device: "lo", Route: &route.Route{Type: "unicast", Device: "lo", Neighbour: "none", Assumed: true}}, silence, NoRoute, "this host has no route to it by lo", "oif lo"},
		{"from loopback", Facts{Source: netip.MustParseAddr("127.0.0.1")}, routed(syscall.EINVAL), SourceUnusable, "the source address cannot be used", "ip address"},
		{"no route by a device", Facts{Device: "eth1", Route: &route.Route{Type: "unicast", Device: "eth1", Neighbour: "failed", Assumed: true}}, down, NoRoute, "this host has no route to it by eth1", "ip route get 198.51.100.1 oif eth1"},
		{"no time for the neighbour", Facts{Route: &route.Route{Type: "unicast", Device: "eth0", Neighbour: "incomplete"}}, silence, HostDown, "does not answer on this network", "start the host"},
		{"no time for the gateway", Facts{Route: &route.Route{Type: "unicast", Gateway: router, Device: "eth0", Neighbour: "failed"}}, silence, NeighbourDown, "the gateway 192.0.2.254 does not answer on eth0", ""},
		{"no route, and another address answers", Facts{Others: []Attempt{{router, probe.Open}}}, routed(syscall.ENETUNREACH), NoRoute, "at 198.51.100.1 cannot be reached: this host has no route to it; 192.0.2.254 answers", ""},
		{"own address, ICMP", Facts{Listener: listener(socket.Listens)}, reported(probe.Refused, probe.OriginTargetFirewall, icmp4(us, 3, 3), 0), LocalRejects, "of this host", ""},
		{"own output", Facts{}, reported(probe.Refused, probe.OriginLocal, icmp4(us, 3, 3), 0), LocalRejects, "of this host", "nft"},
		{"own output prohibits", Facts{}, reported(probe.Prohibited, probe.OriginLocal, icmp4(us, 3, 13), 0), LocalRejects, "of this host", "nft"},
		{"EPERM", Facts{}, failed(probe.Prohibited, probe.OriginLocal, connect(syscall.EPERM)), LocalDrops, "dropped by a firewall rule of this host", "nft"},
		{"a known rule", Facts{Rule: &Rule{true, "inet filter output handle 7"}}, silence, LocalDrops, "(inet filter output handle 7)", "nft -a list chain inet filter output"},
		{"full queue", Facts{Listener: listener(socket.QueueFull), Owner: nginx}, silence, QueueFull, "the accept queue of " + nginx + " is full (6 of 5)", "sport = :80"},
		{"listener, room, silence", Facts{Listener: listener(socket.Listens)}, silence, LocalDrops, "its queue has room", "nft"},
		{"no listener, silence", Facts{Listener: listener(socket.NotListening)}, silence, LocalDrops, "dropped", "nft"},
		{"no route", Facts{}, routed(syscall.ENETUNREACH), NoRoute, "no route", "ip route get 198.51.100.1"},
		{"blackhole", Facts{}, routed(syscall.EINVAL), RouteBlackhole, "blackhole", "ip route get"},
		{"unreachable", Facts{}, routed(syscall.EHOSTUNREACH), RouteUnreachable, "unreachable route", "ip route get"},
		{"prohibit", Facts{}, failed(probe.Prohibited, probe.OriginLocal, connect(syscall.EACCES)), RouteProhibits, "prohibited by a route or rule of this host", "ip rule"},
		{"the route is known", Facts{Route: &route.Route{Type: "blackhole"}}, routed(syscall.ENETUNREACH), RouteBlackhole, "blackhole", ""},
		{"host down, route unknown", Facts{}, down, NeighbourDown, "the host itself or its gateway", "ip neighbour"},
		{"host down, on the link", Facts{Route: &route.Route{Type: "unicast", Device: "eth0", Neighbour: "failed"}}, down, HostDown, "does not answer on this network", ""},
		{"host down, and its entry is gone", Facts{Route: &route.Route{Type: "unicast", Device: "eth0", Neighbour: "none"}}, down, HostDown, "does not answer on this network", ""},
		{"rejected at once, without an entry", Facts{Route: &route.Route{Type: "unicast", Device: "eth0", Neighbour: "none"}}, reported(probe.Unreachable, probe.OriginLocal, icmp4(us, 3, 1), 0), LocalRejects, "rule of this host", "nft"},
		{"gateway down", Facts{Route: &route.Route{Type: "unicast", Gateway: router, Device: "eth0", Neighbour: "failed"}}, down, NeighbourDown, "the gateway 192.0.2.254 does not answer on eth0", ""},
		{"a rule says host unreachable", Facts{Route: &route.Route{Type: "unicast", Neighbour: "reachable"}}, down, LocalRejects, "rule of this host", "nft"},
		{"no port", Facts{}, failed(probe.LocalError, probe.OriginLocal, connect(syscall.EADDRNOTAVAIL)), NoEphemeralPort, "no ephemeral port is left", "ss -tan dst 198.51.100.1"},
		{"no port, counted", Facts{Ports: &Ports{10, 10, 50000, 50009, "python3"}}, failed(probe.LocalError, probe.OriginLocal, connect(syscall.EADDRNOTAVAIL)), NoEphemeralPort, "all 10 ephemeral ports 50000–50009 towards it are in use, by python3", ""},
		{"no IPv6", Facts{}, probe.Result{Outcome: probe.LocalError, Peer: netip.MustParseAddrPort("[2001:db8::1]:80"), Err: connect(syscall.EADDRNOTAVAIL)}, NoResources, "no address of that family", ""},
		{"no IPv6 and no route", Facts{Route: &route.Route{}, Ports: &Ports{Of: 10}}, probe.Result{Outcome: probe.LocalError, Peer: netip.MustParseAddrPort("[2001:db8::1]:80"), Err: connect(syscall.EADDRNOTAVAIL)}, NoRoute, "this host has no route to it", "ip route get 2001:db8::1"},
		{"no descriptors", Facts{}, failed(probe.LocalError, probe.OriginLocal, os.NewSyscallError("socket", syscall.EMFILE)), NoResources, "file descriptor", "ulimit"},
		{"source", Facts{}, failed(probe.LocalError, probe.OriginLocal, bind(syscall.EADDRNOTAVAIL)), SourceUnusable, "source address", "ip address"},
		{"no right", Facts{}, failed(probe.LocalError, probe.OriginLocal, os.NewSyscallError("socket", syscall.EPERM)), NoPrivilege, "CAP_NET_RAW", ""},
		{"file", Facts{}, failed(probe.LocalError, probe.OriginLocal, &os.PathError{Err: syscall.ENOENT}), ModuleUnusable, "a file that its module names", ""},
		{"denied", Facts{}, failed(probe.Denied, probe.OriginLocal, &probe.DeniedError{}), NotAllowed, "not allowed", "probes.allow"},
		{"no slot", Facts{}, failed(probe.NotRun, probe.OriginLocal, nil), NotTried, "no time", ""},
		{"connected too late to be used", Facts{}, failed(probe.Timeout, probe.OriginTarget, nil), NotTried, "accepts the connection, and no time was left to use it", "longer timeout"},
		{"no address", Facts{}, *probe.Malformed(errors.New("x")), BadAddress, "not an address", ""},
	}
}

func wayCases() []situation {
	silence := failed(probe.Timeout, probe.OriginNone, os.ErrDeadlineExceeded)
	by := func(o probe.Outcome, kind, code uint8) probe.Result {
		return reported(o, probe.OriginNetwork, icmp4(router, kind, code), 3*time.Second)
	}
	proxied := failed(probe.Refused, probe.OriginProxy, nil)
	proxied.Proxy = "proxy:3128"
	return []situation{
		{"router rejects", Facts{}, by(probe.Refused, 3, 3), PathRejects, "on the way by 192.0.2.254 (port unreachable", "ask who runs 192.0.2.254"},
		{"router prohibits", Facts{}, by(probe.Prohibited, 3, 13), PathRejects, "administratively prohibited", "ask who runs 192.0.2.254"},
		{"router has no route", Facts{}, by(probe.Unreachable, 3, 0), PathNoRoute, "the router 192.0.2.254 has no route", ""},
		{"loop", Facts{}, by(probe.Unreachable, 11, 0), RoutingLoop, "a routing loop, which ended at 192.0.2.254", ""},
		{"protocol", Facts{}, by(probe.Unreachable, 3, 2), PathUnreachable, "reports protocol unreachable", ""},
		{"host down behind it", Facts{}, by(probe.Unreachable, 3, 1), HostDown, "as 192.0.2.254 reports", "else ask who runs 192.0.2.254"},
		{"proxy", Facts{}, proxied, ProxyFails, "the proxy proxy:3128 refuses", "proxy_url"},
		{"silence", Facts{}, silence, NoAnswer, "dropped by a firewall", "check --trace name.example:80"},
		{"unsent", Facts{Unsent: true}, silence, LocalDrops, "dropped by a firewall rule of this host", "nft list ruleset"},
		{"reversed", Facts{Reversed: true}, silence, ReversePath, "the reverse path filter of this host", "rp_filter=2"},
		{"traced", Facts{Path: &Path{LastHop: router, Hop: 3}}, silence, PathDrops, "die behind 192.0.2.254, hop 3", "192.0.2.254"},
		{"traced to a host that answers", Facts{Path: &Path{LastHop: router, Hop: 3, Host: "ping in 0.4 ms"}}, silence, SilentPort, "its host does (ping in 0.4 ms): a firewall", "nft list ruleset"},
		{"traced, udp", Facts{Path: &Path{LastHop: router, Hop: 3}}, failed(probe.NoReply, probe.OriginNone, nil), PathDrops, "die behind 192.0.2.254, hop 3", "192.0.2.254"},
		{"traced to a host that answers, udp", Facts{Path: &Path{Host: "ping in 0.4 ms"}}, failed(probe.NoReply, probe.OriginNone, nil), NoReply, "cannot distinguish", ""},
		{"MTU", Facts{Path: &Path{BlackHole: true, MTU: 1400}}, inPhase(silence, probe.PhaseTLS), MTUBlackHole, "at most 1400 bytes", ""},
		{"too large", Facts{}, probe.Result{Outcome: probe.Mismatch, Err: &probe.TooLargeError{Size: 1500, MTU: 1400}}, PacketTooLarge, "1500 bytes", ""},
		{"udp", Facts{}, failed(probe.NoReply, probe.OriginNone, nil), NoReply, "cannot distinguish", ""},
		{"udp, no listener here", Facts{Listener: listener(socket.NotListening)}, failed(probe.NoReply, probe.OriginNone, nil), LocalDrops, "rule of this host", ""},
		{"unknown", Facts{}, failed(probe.Unknown, probe.OriginNone, nil), Unexplained, "no name", "check --debug name.example:80"},
	}
}

func thereCases() []situation {
	now := time.Now()
	cert := &x509.Certificate{
		Subject: pkix.Name{CommonName: "web.test"}, Issuer: pkix.Name{CommonName: "Test CA"}, DNSNames: []string{"web.test", "www.web.test"},
		NotBefore: now.Add(-700*24*time.Hour - time.Hour), NotAfter: now.Add(-547*24*time.Hour - time.Hour),
	}
	early := &x509.Certificate{Subject: cert.Subject, NotBefore: now.Add(49 * time.Hour), NotAfter: now.Add(99 * time.Hour)}
	distrusted := func(err error) probe.Result {
		return inPhase(failed(probe.TLSCertificate, probe.OriginTarget, &tls.CertificateVerificationError{Err: err}), probe.PhaseTLS)
	}
	handshake := func(err error) probe.Result {
		return inPhase(failed(probe.TLSHandshake, probe.OriginTarget, err), probe.PhaseTLS)
	}
	open6 := []Attempt{{netip.MustParseAddr("198.51.100.2"), probe.Refused}, {netip.MustParseAddr("2001:db8::1"), probe.Open}}
	refused := failed(probe.Refused, probe.OriginTarget, connect(syscall.ECONNREFUSED))
	return []situation{
		{"refused", Facts{}, refused, Refused, "nothing listens there, or a firewall", "start the service"},
		{"one family", Facts{Others: open6}, refused, OneFamily, "answers on IPv6 and not on IPv4: 2001:db8::1 answers, 198.51.100.1 does not", "bind"},
		{"same family", Facts{Others: open6[:1]}, refused, Refused, "", ""},
		{"firewall there", Facts{}, reported(probe.Refused, probe.OriginTargetFirewall, icmp4(peer.Addr(), 3, 3), 0), TargetRejects, "a firewall of the target", "allow tcp port 80"},
		{"prohibited there", Facts{}, reported(probe.Prohibited, probe.OriginTargetFirewall, icmp4(peer.Addr(), 3, 13), 0), TargetRejects, "administratively", ""},
		{"expired", Facts{}, distrusted(x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired}), CertificateExpired, "547 days ago (CN web.test)", "renew"},
		{"too early", Facts{}, distrusted(x509.CertificateInvalidError{Cert: early, Reason: x509.Expired}), CertificateNotYet, "in 2 days (CN web.test)", "clock"},
		{"names", Facts{}, distrusted(x509.HostnameError{Certificate: cert, Host: "other.test"}), CertificateName, "is for web.test, www.web.test and not for other.test", "--hostname"},
		{"issuer", Facts{}, distrusted(x509.UnknownAuthorityError{Cert: cert}), CertificateUntrusted, "issuer CN Test CA", "ca_file"},
		{"client certificate", Facts{}, handshake(&probe.NoClientCertificateError{Err: errors.New("x")}), ClientCertificate, "client certificate", "cert_file"},
		{"plain", Facts{}, handshake(tls.RecordHeaderError{}), NotTLS, "does not answer with TLS", "starttls"},
		{"handshake", Facts{}, handshake(errors.New("x")), TLSFails, "handshake fails", ""},
		{"alert", Facts{}, handshake(&net.OpError{Op: "remote error", Err: errors.New("tls: protocol version not supported")}), TLSFails, "fails: it answers \"protocol version not supported\"", ""},
		{"a long name", Facts{}, distrusted(x509.UnknownAuthorityError{Cert: &x509.Certificate{Subject: pkix.Name{CommonName: strings.Repeat("ä", 80)}}}), CertificateUntrusted, strings.Repeat("ä", 50) + "…", ""},
		{"hangs", Facts{}, inPhase(failed(probe.Timeout, probe.OriginNone, nil), probe.PhaseExchange), ServiceSilent, "hangs", ""},
	}
}

func nameCases() []situation {
	name := func(o probe.Outcome, err error) probe.Result {
		return probe.Result{Outcome: o, Phase: probe.PhaseResolve, Err: err}
	}
	dns := &net.DNSError{Name: "name.example", IsNotFound: true}
	return []situation{
		{"no name", Facts{}, name(probe.DNSNotFound, dns), NameNotFound, "does not exist", "correct the name"},
		{"gone", Facts{Names: Names{Gone: true}}, name(probe.DNSNotFound, dns), NameNotFound, "the name does not exist (name.example)", "correct the name"},
		{"empty", Facts{Names: Names{Empty: true}}, name(probe.DNSNotFound, dns), NameNotFound, "the name has no address (name.example)", "correct the name"},
		{"dangling", Facts{Names: Names{Alias: "name.example", Missing: "gone.example", Gone: true}}, name(probe.DNSNotFound, dns), NameNotFound, "name.example is an alias of gone.example, which does not exist", "correct the CNAME record of name.example, or add gone.example"},
		{"no address", Facts{}, name(probe.DNSNotFound, &probe.NoAddressError{Err: dns}), NoAddressOfFamily, "wanted family", ""},
		{"blocked", Facts{}, name(probe.Denied, &probe.DeniedError{NoHost: true}), NameBlocked, "its name leads to 0.0.0.0 or ::", "dig name.example"},
		{"error", Facts{}, name(probe.DNSError, dns), NameServerFails, "answers with an error for name.example", "resolvectl query name.example"},
		{"error of a known server", Facts{Names: Names{Error: "192.0.2.53:53 answers REFUSED"}}, name(probe.DNSError, dns), NameServerFails, "the name server 192.0.2.53:53 answers REFUSED for name.example", "resolvectl"},
		{"silence", Facts{}, name(probe.DNSTimeout, dns), NameServerSilent, "does not answer", "resolvectl query name.example"},
		{"silence of one type", Facts{Names: Names{Unanswered: "AAAA"}}, name(probe.DNSTimeout, dns), NameServerSilent, "does not answer the question of type AAAA for name.example", "resolvectl"},
		{"silence of all", Facts{Names: Names{Silent: []string{"192.0.2.53:53", "[2001:db8::53]:53"}}}, name(probe.DNSTimeout, dns), NameServerSilent, "the name servers 192.0.2.53:53 and [2001:db8::53]:53 do not answer for name.example", "mend 192.0.2.53, or remove it from /etc/resolv.conf"},
		{"silence before the next is asked", Facts{Names: Names{Silent: []string{"[2001:db8::53]:53"}, Unasked: []string{"192.0.2.54:53"}}}, name(probe.DNSTimeout, dns), NameServerSilent, "; 192.0.2.54:53, the next of /etc/resolv.conf, was not asked in time", "dig @2001:db8::53 name.example"},
		{"silence of a resolver of this host", Facts{Names: Names{Silent: []string{"127.0.0.53:53"}}}, name(probe.DNSTimeout, dns), NameServerSilent, "127.0.0.53:53 does not answer", "resolvectl query name.example"},
		{"unreached", Facts{}, name(probe.DNSTimeout, &probe.UnreachedError{Server: "10.77.0.2:53", Err: syscall.ECONNREFUSED}), NameServerUnreached, "10.77.0.2:53 cannot be reached", "ip route get 10.77.0.2; correct the name server in /etc/resolv.conf"},
		{"none is configured", Facts{Names: Names{None: true}}, name(probe.DNSTimeout, &probe.UnreachedError{Server: "[::1]:53", Err: syscall.ECONNREFUSED}), NameServerUnreached, "/etc/resolv.conf names no name server", "add the line nameserver ADDRESS"},
	}
}

func TestJudge(t *testing.T) {
	for _, set := range [][]situation{localCases(), wayCases(), thereCases(), nameCases()} {
		for _, tt := range set {
			t.Run(tt.name, func(t *testing.T) {
				tt.facts.Target, tt.facts.Result = &probe.Target{Address: "name.example:80"}, &tt.result
				got := Judge(&tt.facts)
				if got.Code != tt.want || got.Place != tt.want.Place() {
					t.Errorf("%s (%s), want %s", got.Code, got.Place, tt.want)
				}
				if !strings.Contains(got.Sentence, tt.sentence) || !strings.HasPrefix(got.Sentence, "name.example:80 ") || strings.HasSuffix(got.Sentence, ".") {
					t.Errorf("%q, want %q in it", got.Sentence, tt.sentence)
				}
				if got.Next == "" || !strings.Contains(got.Next, tt.next) {
					t.Errorf("next: %q, want %q in it", got.Next, tt.next)
				}
			})
		}
	}
}

// TestOpen says how a target answers, by its prober.
func TestOpen(t *testing.T) {
	rtt := &probe.Metric{Name: "probe_icmp_duration_seconds", Labels: []string{"phase"}}
	for _, tt := range []struct {
		kind     string
		listener *socket.Answer
		want     string
	}{
		{probe.KindTCP, nil, "a:1 is open"},
		{probe.KindICMP, nil, "a:1 answers pings in 0.4 ms"},
		{probe.KindHTTP, nil, "a:1 answers as expected"},
		{probe.KindTCP, listener(socket.QueueFull), "a:1 is open, but its accept queue is full"},
	} {
		r := probe.Result{Samples: []probe.Sample{{Metric: rtt, Value: 0.0004, Labels: []string{"rtt"}}}}
		f := &Facts{Target: &probe.Target{Address: "a:1", Module: &probe.Module{Kind: tt.kind}}, Result: &r, Listener: tt.listener}
		if got := Judge(f); got.Sentence != tt.want || got.Next != "" || got.Code != Open {
			t.Errorf("%s: %+v", tt.kind, got)
		}
	}
}

// TestTable has a whole row for each code, with a name of its own.
func TestTable(t *testing.T) {
	names := map[string]bool{}
	for c := range NumCodes {
		i := Of(c)
		if i.Name == "" || i.Meaning == "" || names[i.Name] || (c != Open) != (i.Next != "" && i.ErrorType != "") {
			t.Errorf("%d: %+v", c, i)
		}
		names[i.Name] = true
	}
	if Of(NumCodes) != Of(Unexplained) || Place(99).String() != "unknown" || Place(99).Words() != "unknown" {
		t.Error("a code or place beyond the last is not unexplained")
	}
}
