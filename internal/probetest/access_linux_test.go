package probetest_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// The hosts of the network in which clients ask for what they must not have. Both
// servers are on the loopback device, so that one network namespace has them all.
const (
	allowedNetwork = "203.0.113.0/24"
	redirector     = "203.0.113.80"
	proxy          = "203.0.113.90"
	silentGateway  = "192.0.2.254"
	silentGateway6 = "2001:db8::fe"
)

// metadata4 are addresses that a client must not reach, in IPv4.
var metadata4 = []string{
	"169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0", "224.0.0.1", "255.255.255.255",
}

// writings are the ways to write an address of IPv4, as a host of a URL or of
// host:port.
func writings(address string) []string {
	b := netip.MustParseAddr(address).As4()
	whole := binary.BigEndian.Uint32(b[:])
	fullWidth := strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return r - '0' + '０'
		}
		return r
	}, address)
	return []string{
		address, address + ".", fmt.Sprint(whole), fmt.Sprintf("0x%x", whole), fmt.Sprintf("0%o", whole),
		fmt.Sprintf("0%o.0%o.0%o.0%o", b[0], b[1], b[2], b[3]), fmt.Sprintf("0x%x.0x%x.0x%x.0x%x", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("%d.%d", b[0], whole&0xffffff), fullWidth, "user:word@" + address, redirector + "@" + address,
		"[::ffff:" + address + "]", fmt.Sprintf("[::ffff:%x:%x]", whole>>16, whole&0xffff), "[64:ff9b::" + address + "]",
		fmt.Sprintf("[2002:%x:%x::1]", whole>>16, whole&0xffff), "[::" + address + "]", "[::ffff:0:" + address + "]",
		"[64:ff9b:1::" + address + "]",
	}
}

// hostileHosts are what a client may write for a host.
func hostileHosts() []string {
	hosts := []string{
		"[fe80::1%25eth0]", "[fe80::1]", "[::]", "[ff02::1]", "[ff02::1%25eth0]", "[fd00:ec2::254]", "[fd20:ce::254]", "[fd00:42::42]",
		"[fd00:c1::a9fe:a9fe]", "[fd00:100::100:200]", "[fd00:a9fe:a9fe::1]", "[fd12:3456::1]", "[fc00::1]", "[fec0::1]",
		"meta.test", "meta.allowed.test", "META.Allowed.Test.", "rebind.allowed.test", "rebind.test", "nowhere.test", "nowhere.allowed.test",
		"secret-data.exfil.test", "allowed.test.exfil.test", "notallowed.test", "zero.allowed.test", "private6.allowed.test", "mapped.allowed.test",
		"münchen.test", "a..test", ".allowed.test", "-", "", " ", "*", "%", "[", "[]", "..", "a b", "127.0.0.1\x00.allowed.test",
		"a.allowed.test\r\nHost: b", "a.allowed.test\n", "169.254.169.254#.allowed.test", "169.254.169.254?.allowed.test", "169.254.169.254\\.allowed.test",
		redirector + "\\@169.254.169.254", "169.254.169.254%2f.allowed.test", "169.254.169.254%00.allowed.test", strings.Repeat("a.", 400) + "allowed.test",
	}
	for _, address := range metadata4 {
		hosts = append(hosts, writings(address)...)
	}
	return hosts
}

// wholeTargets are targets that have no host in the usual place.
func wholeTargets() []string {
	targets := []string{
		"/run/docker.sock", "@abstract", "unix:/run/docker.sock", "file:///etc/passwd", "gopher://169.254.169.254:80/_x", "//169.254.169.254/",
		"http:169.254.169.254", "http:/169.254.169.254/", "http:///169.254.169.254", "http://https://169.254.169.254/", "HTTP://169.254.169.254/",
		"http://169.254.169.254:0/", "http://169.254.169.254:99999/", "http://169.254.169.254:http/", "169.254.169.254:80:80", "h2c://169.254.169.254/",
		"\thttp://169.254.169.254/", "http://169.254.169.254 .allowed.test/", "dns://169.254.169.254", "[::ffff:169.254.169.254]:80/x",
	}
	for _, to := range []string{
		"http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://[fe80::1%25eth0]/", "http://meta.allowed.test/", "http://meta.test/", "http://exfil.test/",
		"http://rebind.allowed.test/", "http://0.0.0.0/", "http://2852039166/", "http://[::ffff:169.254.169.254]/", "//169.254.169.254/", "https://meta.test/",
	} {
		targets = append(targets, "http://"+redirector+"/?to="+url.QueryEscape(to))
	}
	return targets
}

// hostileKinds are modules of every prober: the target of each for a host.
func hostileKinds() map[string]func(host string) string {
	hostPort := func(host string) string { return host + ":80" }
	bare := func(host string) string { return strings.Trim(host, "[]") }
	return map[string]func(string) string{
		"web": func(host string) string { return "http://" + host + "/" }, "web3": func(host string) string { return "https://" + host + "/" },
		"web_proxy": func(host string) string { return "http://" + host + "/" },
		"tcp":       hostPort, "tls": hostPort, "udp": hostPort, "stun": hostPort, "grpc": hostPort, "grpc_tls": hostPort,
		"unix": func(host string) string { return "/run/" + host }, "dns_udp": bare, "dns_tcp": hostPort, "icmp": bare,
	}
}

const hostileModules = `
modules:
  web: {prober: http, timeout: 100ms}
  web3: {prober: http, timeout: 100ms, http: {enable_http3: true, enable_http2: false}}
  web_proxy: {prober: http, timeout: 100ms, http: {proxy_url: "http://203.0.113.90:3128"}}
  tcp: {prober: tcp, timeout: 100ms}
  tls: {prober: tcp, timeout: 100ms, tcp: {tls: true, tls_config: {insecure_skip_verify: true}}}
  udp: {prober: udp, timeout: 100ms}
  stun: {prober: stun, timeout: 100ms}
  grpc: {prober: grpc, timeout: 100ms, grpc: {}}
  grpc_tls: {prober: grpc, timeout: 100ms, grpc: {tls: true}}
  unix: {prober: unix, timeout: 100ms}
  dns_udp: {prober: dns, timeout: 100ms, dns: {query_name: a.test}}
  dns_tcp: {prober: dns, timeout: 100ms, dns: {query_name: a.test, transport_protocol: tcp}}
  icmp: {prober: icmp, timeout: 100ms}
  secret_web: {prober: http, timeout: 100ms, http: {basic_auth: {username: u, password: word}}}
  secret_proxy: {prober: http, timeout: 100ms, http: {proxy_url: "http://203.0.113.90:3128", basic_auth: {username: u, password: word}}}
  secret_grpc: {prober: grpc, timeout: 100ms, grpc: {metadata: {authorization: [word]}}}
  secret_tls: {prober: tcp, timeout: 100ms, tcp: {tls: true, tls_config: {cert_file: %[1]s, key_file: %[1]s}}}
  secret_unix: {prober: unix, timeout: 100ms, unix: {tls: true, tls_config: {cert_file: %[1]s, key_file: %[1]s}}}
targets:
  - {address: "http://203.0.113.80/", module: web}
  - {address: "http://203.0.113.80/", module: web_proxy}
  - {address: "203.0.113.80:80", module: tcp}
  - {address: "203.0.113.80:80", module: tls}
  - {address: "203.0.113.80:80", module: grpc}
  - {address: "203.0.113.80:80", module: grpc_tls}
  - {address: /run/none.sock, module: unix}
  - {address: "http://203.0.113.80/", module: secret_web}
  - {address: "http://203.0.113.80/", module: secret_proxy}
  - {address: "203.0.113.80:80", module: secret_grpc}
  - {address: "203.0.113.80:80", module: secret_tls}
  - {address: /run/none.sock, module: secret_unix}
probes: {max_in_flight: 512%[2]s}
`

// TestHostileTargetsInNamespace asks /probe for hostile targets with every
// prober, and for configured targets under hostile hostnames, while a sniffer
// sees every packet that leaves: none may go to what no rule allows, and no name
// server may be asked for a name that no rule lists.
func TestHostileTargetsInNamespace(t *testing.T) {
	inside := netip.MustParsePrefix(allowedNetwork)
	for _, tt := range []struct {
		name, allow string
		address     func(netip.Addr) bool
		lookup      func(name string) bool
	}{
		{"configured", "", nowhere, never},
		{"a network", `, allow: {rules: [{networks: 203.0.113.0/24}]}`, inside.Contains, never},
		{"names in a network", `, allow: {rules: [{hosts: ["*.allowed.test"], networks: 203.0.113.0/24}, {networks: 203.0.113.0/24}]}`, inside.Contains,
			func(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".allowed.test.") }},
		{"any", ", allow: any", func(a netip.Addr) bool { return !mustBeListed(a) }, func(string) bool { return true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			porttest.Namespace(t)
			h := newHostileNetwork(t, tt.allow)
			for module, target := range hostileKinds() {
				for _, host := range hostileHosts() {
					h.ask(url.Values{"module": {module}, "target": {target(host)}})
				}
				for _, whole := range wholeTargets() {
					h.ask(url.Values{"module": {module}, "target": {whole}})
				}
			}
			h.askHostnames()
			h.finish(t)
			if n := h.asked.Load(); n < 164*13 {
				t.Errorf("%d requests, want %d at least", n, 164*13)
			}
			for to := range h.sniffer.packets() {
				if !tt.address(to.Addr()) {
					t.Errorf("a packet went to %v", to)
				}
			}
			for name := range h.lookups() {
				if !tt.lookup(name) {
					t.Errorf("a name server was asked for %q", name)
				}
			}
			h.checkProxy(t, tt.address, tt.lookup)
			if n := h.secrets.Load(); n > 0 {
				t.Errorf("%d requests of a client that chose the hostname had a password", n)
			}
			t.Logf("%d requests: %v, %d addresses reached, %d names resolved", h.asked.Load(), h.answers(), len(h.sniffer.packets()), len(h.lookups()))
		})
	}
}

func nowhere(netip.Addr) bool { return false }
func never(string) bool       { return false }

// mustBeListed reports whether an address needs a rule that lists it, whatever
// else is allowed: the list of the documents, written anew.
func mustBeListed(a netip.Addr) bool {
	for _, network := range []string{
		"169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "0.0.0.0/32", "224.0.0.0/4", "240.0.0.0/4",
		"fe80::/10", "fc00::/7", "fec0::/10", "ff00::/8", "::/128", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::ffff:0:0:0/96",
	} {
		if netip.MustParsePrefix(network).Contains(a) {
			return true
		}
	}
	return false
}

// hostileNetwork is the exporter, the servers that mislead it, and the clients.
type hostileNetwork struct {
	sniffer *sniffer
	work    chan url.Values
	clients sync.WaitGroup
	asked   atomic.Int64
	secrets atomic.Int64

	mu       sync.Mutex
	statuses map[string]int
	names    map[string]int
	proxied  map[string]int // hosts that the proxy was to connect to
	failed   error
}

func newHostileNetwork(t *testing.T, allow string) *hostileNetwork {
	t.Helper()
	h := &hostileNetwork{work: make(chan url.Values), statuses: map[string]int{}, names: map[string]int{}, proxied: map[string]int{}}
	porttest.Sysctl(t, "net/ipv6/conf/default/accept_dad", "0")
	porttest.AddVeth(t, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	porttest.SilentNeighbour(t, "eth0", silentGateway)
	porttest.SilentNeighbour(t, "eth0", silentGateway6)
	porttest.Address(t, "lo", redirector+"/32", proxy+"/32")
	porttest.Route(t, "0.0.0.0/0", silentGateway)
	porttest.Route(t, "::/0", silentGateway6)
	h.serve(t)
	h.start(t, allow)
	h.sniffer = newSniffer(t)
	h.connect(t)
	return h
}

// serve starts the name server, a web server that redirects and a proxy.
func (h *hostileNetwork) serve(t *testing.T) {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	names := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(h.answerName)}
	go func() { _ = names.ActivateAndServe() }()
	t.Cleanup(func() { _ = names.Shutdown() })
	redirects := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.look(r)
		if to := r.URL.Query().Get("to"); to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	})
	proxied := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		h.look(r)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.proxied[r.URL.Hostname()]++
	})
	for address, handler := range map[string]http.Handler{redirector + ":80": redirects, proxy + ":3128": proxied} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: handler}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
	}
}

// look counts passwords that come with another host than the configured one.
func (h *hostileNetwork) look(r *http.Request) {
	if _, _, has := r.BasicAuth(); has && r.Host != redirector {
		h.secrets.Add(1)
	}
}

// answerName answers a question for A or AAAA. Names with rebind in them lead
// inside every other time.
func (h *hostileNetwork) answerName(w dns.ResponseWriter, q *dns.Msg) {
	name := q.Question[0].Name
	h.mu.Lock()
	h.names[name]++
	n := h.names[name]
	h.mu.Unlock()
	first, _, _ := strings.Cut(strings.ToLower(name), ".")
	record := map[string]string{
		"meta": "A 169.254.169.254", "zero": "A 0.0.0.0", "private6": "AAAA fd00:ec2::254", "mapped": "AAAA ::ffff:169.254.169.254", "rebind": "A " + redirector,
	}[first]
	if first == "rebind" && n%2 == 0 {
		record = "A 169.254.169.254"
	}
	reply := new(dns.Msg).SetReply(q)
	if record == "" {
		reply.Rcode = dns.RcodeNameError
	} else if rr, err := dns.NewRR(name + " 0 IN " + record); err == nil && rr.Header().Rrtype == q.Question[0].Qtype {
		reply.Answer = append(reply.Answer, rr)
	}
	_ = w.WriteMsg(reply)
}

// start starts the exporter with the name server of the namespace.
func (h *hostileNetwork) start(t *testing.T, allow string) {
	t.Helper()
	dir := t.TempDir()
	resolvers := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolvers, []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pair := porttest.WritePEM(t, filepath.Join(dir, "pair.pem"), porttest.SelfSigned(t))
	config := write(t, hostileModules, pair, allow)
	porttest.StartDaemonAs(t, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS},
		"sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolvers,
		"port_exporter", "--config.file="+config, "--collector.disable-defaults", "--collector.probes", "--log.level=error")
	if status, body := porttest.Get(t, porttest.ScrapeAddress, "/-/healthy"); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
}

// clientsAtOnce is how many clients ask. Their connections are made on the test's
// own goroutine, which is in the namespace.
const clientsAtOnce = 48

func (h *hostileNetwork) connect(t *testing.T) {
	t.Helper()
	for range clientsAtOnce {
		conn, err := net.Dial("tcp", porttest.ScrapeAddress)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		h.clients.Go(func() { h.client(conn) })
	}
}

// client sends one request after the other.
func (h *hostileNetwork) client(conn net.Conn) {
	in := bufio.NewReader(conn)
	for query := range h.work {
		status, err := h.request(conn, in, query)
		h.mu.Lock()
		h.statuses[status]++
		if err != nil && h.failed == nil {
			h.failed = fmt.Errorf("%v: %w", query, err)
		}
		h.mu.Unlock()
	}
}

func (h *hostileNetwork) request(conn net.Conn, in *bufio.Reader, query url.Values) (string, error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+porttest.ScrapeAddress+"/probe?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	if err := r.Write(conn); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(in, r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if strings.Contains(string(body), "probe_outcome_code 17\n") && strings.Contains(string(body), "probe_ip_addr_hash") {
		return "", fmt.Errorf("a denied answer has a hash: %s", body)
	}
	return response.Status, err
}

func (h *hostileNetwork) ask(query url.Values) {
	h.asked.Add(1)
	h.work <- query
}

// askHostnames asks for the configured targets under hostnames of the client.
func (h *hostileNetwork) askHostnames() {
	targets := map[string]string{
		"web": "http://203.0.113.80/", "web_proxy": "http://203.0.113.80/", "tcp": "203.0.113.80:80", "tls": "203.0.113.80:80", "grpc": "203.0.113.80:80",
		"grpc_tls": "203.0.113.80:80", "unix": "/run/none.sock", "secret_web": "http://203.0.113.80/", "secret_proxy": "http://203.0.113.80/",
		"secret_grpc": "203.0.113.80:80", "secret_tls": "203.0.113.80:80", "secret_unix": "/run/none.sock",
	}
	hostnames := []string{"evil.example", "meta.test", "10.9.0.77:8080", "127.1", "169.254.169.254", "2852039166", "[fd00:ec2::254]", "x\r\ny"}
	for module, target := range targets {
		for _, hostname := range hostnames {
			h.ask(url.Values{"module": {module}, "target": {target}, "hostname": {hostname}})
		}
	}
}

// finish waits for the answers, and for the sniffer to have seen all before.
func (h *hostileNetwork) finish(t *testing.T) {
	t.Helper()
	close(h.work)
	h.clients.Wait()
	if h.failed != nil {
		t.Errorf("a request was not answered: %v", h.failed)
	}
	h.sniffer.stop(t)
}

// checkProxy checks what the proxy of a module was asked for.
func (h *hostileNetwork) checkProxy(t *testing.T, address func(netip.Addr) bool, lookup func(string) bool) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for host := range h.proxied {
		addr, err := netip.ParseAddr(host)
		if err == nil && !address(addr) || err != nil && !lookup(host+".") {
			t.Errorf("the proxy was asked for %q", host)
		}
	}
}

func (h *hostileNetwork) lookups() map[string]int { return h.copyOf(h.names) }
func (h *hostileNetwork) answers() map[string]int { return h.copyOf(h.statuses) }

func (h *hostileNetwork) copyOf(m map[string]int) map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(m)
}

// sniffer sees every IP packet that leaves the network namespace, or passes its
// loopback device: packet(7).
type sniffer struct {
	fd   int
	done chan struct{}
	mu   sync.Mutex
	seen map[netip.AddrPort]int
}

// sentinel is where the last packet goes: the port discard.
const sentinel = "127.0.0.1:9"

func newSniffer(t *testing.T) *sniffer {
	t.Helper()
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		t.Fatal(err)
	}
	s := &sniffer{fd: fd, done: make(chan struct{}), seen: map[netip.AddrPort]int{}}
	go s.run()
	return s
}

func (s *sniffer) run() {
	defer close(s.done)
	b := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok {
			return
		}
		if link.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		source, to, ok := ends(b[:n])
		if to.String() == sentinel {
			return
		}
		if !ok || isOurs(source, to) {
			continue
		}
		s.mu.Lock()
		s.seen[to]++
		s.mu.Unlock()
	}
}

// isOurs reports whether a packet is of the test, requests to the exporter, those
// to the name server, and the answers of both.
func isOurs(source, to netip.AddrPort) bool {
	loopback := netip.MustParseAddr("127.0.0.1")
	at := func(a netip.AddrPort) bool { return a.Addr() == loopback && (a.Port() == 10065 || a.Port() == 53) }
	return at(source) || at(to)
}

// ends returns both ends of a packet, the ports being 0 where it has none. A
// neighbour solicitation goes to whom it asks for. What the kernel sends of its
// own accord (RFC 4861, RFC 3810) is left out.
func ends(packet []byte) (source, to netip.AddrPort, ok bool) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		header := int(packet[0]&0xf) * 4
		from, dest := netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		source, to = withPorts(from, dest, packet[9], packet[header:])
		return source, to, packet[9] != unix.IPPROTO_ICMP || packet[header] == 8 // errors are answers
	case len(packet) >= 48 && packet[0]>>4 == 6:
		protocol, rest := packet[6], packet[40:]
		from, dest := netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		switch {
		case protocol == 0: // hop-by-hop options: multicast listener reports
			return source, to, false
		case protocol == unix.IPPROTO_ICMPV6 && rest[0] == 135 && len(rest) >= 24:
			return netip.AddrPortFrom(from, 0), netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest[8:])), 0), !from.IsUnspecified()
		}
		source, to = withPorts(from, dest, protocol, rest)
		return source, to, protocol != unix.IPPROTO_ICMPV6 || rest[0] == 128
	default:
		return source, to, false
	}
}

func withPorts(from, to netip.Addr, protocol byte, rest []byte) (source, dest netip.AddrPort) {
	if len(rest) < 4 || protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_UDP {
		return netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0)
	}
	return netip.AddrPortFrom(from, binary.BigEndian.Uint16(rest)), netip.AddrPortFrom(to, binary.BigEndian.Uint16(rest[2:]))
}

// stop waits until everything that was sent before was seen.
func (s *sniffer) stop(t *testing.T) {
	t.Helper()
	last, err := net.Dial("udp", sentinel)
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if _, err := last.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	<-s.done
	lost, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || lost.Drops > 0 {
		t.Errorf("the sniffer lost packets: %v, %v", lost, err)
	}
	_ = unix.Close(s.fd)
}

func (s *sniffer) packets() map[netip.AddrPort]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen)
}

// TestHostileTargetsAreMany checks that the table has as many cases as is said.
func TestHostileTargetsAreMany(t *testing.T) {
	hosts := slices.Concat(hostileHosts(), wholeTargets())
	slices.Sort(hosts)
	if n := len(slices.Compact(hosts)); n < 164 || len(hostileKinds()) != 13 {
		t.Errorf("%d targets and %d modules, want 164 and 13", n, len(hostileKinds()))
	}
}
