package probetest_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// answered is what a new user meets, and asks check about.
type answered struct {
	title, text string
	args        string // of check, as it is shown
	status      int
	as          *syscall.Credential
	asUser      string
	says        string // a part of the headline
	before      func(*testing.T, *porttest.Network)
}

// answeredScenes are those of docs/check.md. The first is also that of docs/diagnosis.md.
func answeredScenes() []answered {
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	return []answered{
		{title: "A service that accepts loopback only", text: "Redis is bound to 127.0.0.1, and is asked by the address of the host.", args: "192.0.2.2:6379", status: 1, says: "accepts loopback only"},
		{title: "A closed port of another host", text: "From outside, a firewall that answers with a reset looks the same.", args: "198.51.100.2:80", status: 1, says: "refuses: nothing listens there"},
		{title: "A dropped port", text: "Silence does not say where the packets die; `--trace` finds the last hop that answers.", args: "198.51.100.2:81 --timeout=1500ms", status: 1, says: "does not answer in time"},
		{title: "A name that does not exist", text: "The second name has the search domain of /etc/resolv.conf.", args: "nope.test:80", status: 1, says: "the name does not exist"},
		{title: "An expired certificate", text: "The name is an alias. Each certificate that the server sent has a line.", args: "tls://web.test", status: 1, says: "its certificate expired on"},
		{title: "A full accept queue", text: "A bare port is one of this host. The service does not accept its connections.", args: "7000 --timeout=500ms", status: 1, says: "is full (2 of 1)"},
		{title: "The same, unprivileged", text: "What cannot be seen is `unknown`, with the privilege that shows it.", args: "7000 --timeout=500ms", status: 1, as: nobody, asUser: "nobody", says: "is full (2 of 1)"},
		{title: "A name with IPv6 and IPv4, and a service on IPv4 only", text: "Browsers and curl connect; a client that takes the first address does not.", args: "http://both.test:8080", status: 1, says: "answers on IPv4 and not on IPv6"},
		{title: "The same, every address probed", text: "With `--all-ips` each address has a whole probe of the module.", args: "http://both.test:8080 --all-ips", status: 1, says: "answers on IPv4 and not on IPv6"},
		{title: "By the name of a unit, container or process", text: "Its TCP listeners are checked; here Redis has one.", args: "redis-server", says: "127.0.0.1:6379 is open"},
		{title: "A service in its protocol", text: "`redis://` sends a PING, which a server that asks for a password answers too.", args: "redis://localhost", says: "localhost:6379 is open"},
		{title: "A proxy that refuses", text: "`proxy.yml` has a module with `proxy_url: http://198.51.100.2:3128`.", args: "http://web.test/ --module=by_proxy --config.file=proxy.yml", status: 1, says: "the proxy 198.51.100.2:3128 refuses"},
		{title: "A rule of this host", text: "The listener is there and has room, so it is a rule of this host that rejects.", args: "192.0.2.2:7001", status: 1, says: "is rejected by a firewall rule of this host"},
		{title: "Ephemeral ports used up", text: "Two ports are left to clients, and one program has both towards this target.", args: "198.51.100.2:8080", status: 2, says: "all 2 ephemeral ports 40000–40001 towards it are in use", before: useUpPorts},
		{title: "All is well", text: "Exit status 0.", args: "http://198.51.100.2:8080", status: 0, says: "answers as expected", before: setPorts("50000 59999")},
		{title: "Answers that arrive on another interface", text: "The host has a second interface, on which the answers of 203.0.113.1 arrive. `rp_filter` is 1 (strict).", args: "203.0.113.1:80 --timeout=1500ms", status: 1, says: "the reverse path filter of this host", before: answerElsewhere},
	}
}

// TestCheckPageInNamespace is the first day of a new user, on a host with a router and a
// server: docs/check.md has each answer.
func TestCheckPageInNamespace(t *testing.T) {
	n := porttest.NewNetwork(t)
	porttest.OpenProgram(t)
	dir := porttest.OpenDir(t)
	ownNames(t, dir)
	servePage(t, n)
	breakHost(t)
	const proxy = "modules: {by_proxy: {prober: http, http: {proxy_url: 'http://198.51.100.2:3128', skip_resolve_phase_with_proxy: true}}}\n"
	if err := os.WriteFile(filepath.Join(dir, "proxy.yml"), []byte(proxy), 0o644); err != nil {
		t.Fatal(err)
	}
	written, _ := os.ReadFile("docs/check.md") // none when it is written for the first time
	var page strings.Builder
	page.WriteString(pageHead)
	for i, s := range answeredScenes() {
		if s.before != nil {
			s.before(t, n)
		}
		block, wrong := s.run(t, dir)
		// On a busy machine what check asks beside the probe may end without an answer.
		for range 3 {
			if wrong == "" && strings.Contains(string(written), block) {
				break
			}
			block, wrong = s.run(t, dir)
		}
		if wrong != "" {
			t.Error(wrong)
		}
		if i == 0 {
			compareFirst(t, block)
		}
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n%s", s.title, s.text, block)
	}
	porttest.Golden(t, "docs/check.md", page.String())
}

const pageHead = `# Examples of check

What ` + "`port_exporter check`" + ` says in situations that people meet. [diagnosis.md](diagnosis.md) has its options, exit
statuses and the table of all verdicts. The host is 192.0.2.2, the router 192.0.2.1, the server 198.51.100.2.

<!-- Generated by TestCheckPageInNamespace, which runs each command (go test ./internal/probetest -run TestCheckPage -update, as root). -->
`

// run checks what a scene is about, and returns it as the page has it, and how it differs
// from what the scene says.
func (s *answered) run(t *testing.T, dir string) (block, wrong string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "port_exporter", append([]string{"check"}, strings.Fields(s.args)...)...)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: s.as}
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	headline, _, _ := strings.Cut(string(out), "\n")
	if status := cmd.ProcessState.ExitCode(); status != s.status || !strings.Contains(headline, s.says) {
		wrong = fmt.Sprintf("%s: status %d, want %d; %q in the first line\n%s", s.title, status, s.status, s.says, out)
	}
	prompt := "$"
	if s.asUser != "" {
		prompt = s.asUser + "$"
	}
	return fmt.Sprintf("```console\n%s port_exporter check %s\n%s```\n", prompt, s.args, steady(t, string(out))), wrong
}

// steady returns the output without what differs from run to run and from host to host.
func steady(t *testing.T, out string) string {
	t.Helper()
	for _, r := range []struct{ pattern, with string }{
		{`\b1\.[4-9] s\b`, "1.5 s"},
		{`\b\d+(\.\d+)? (ms|s)\b`, "0.3 ms"},
		{`\(pid \d+(?:, [^(),]*)??(, user [\w-]+)?\)`, "(pid 4711$1)"},
		{`(from [0-9a-f.:\[\]]+):[45]\d{4}\b`, "$1:50000"},
		{`MSS \d+`, "MSS 1448"},
		{`a process of \S+ \(user`, "a process that is unknown (user"},
		{`a process of \S+`, "the listener"},
		{`SYN sent \d times`, "SYN sent 2 times"},
		{`\d{4}-\d\d-\d\dT[\d:]+Z`, "2025-06-01T00:00:00Z"},
		{`\d{4}-\d\d-\d\d\b`, "2025-06-01"},
		{`is (reachable|stale|delay|probe) in the table`, "is reachable in the table"},
		{`\b\d+ packets were discarded`, "2 packets were discarded"},
		{regexp.QuoteMeta(porttest.OwnName(t)), "app"},
	} {
		text := regexp.MustCompile(r.pattern)
		if r.with == "0.3 ms" {
			out = text.ReplaceAllStringFunc(out, func(found string) string {
				if found == "1.5 s" {
					return found
				}
				return r.with
			})
			continue
		}
		out = text.ReplaceAllString(out, r.with)
	}
	return out
}

// compareFirst compares the first screen of docs/diagnosis.md with a scene.
func compareFirst(t *testing.T, block string) {
	t.Helper()
	const page, begin, end = "docs/diagnosis.md", "<!-- Generated by TestCheckPageInNamespace; do not edit. -->\n", "<!-- end of the example -->\n"
	porttest.GoldenPart(t, page, begin, end, block)
}

// ownNames gives the processes of the test a resolver and a hosts file of their own.
func ownNames(t *testing.T, dir string) {
	t.Helper()
	porttest.MountNamespace(t)
	for name, text := range map[string]string{
		"resolv.conf": "nameserver 198.51.100.2\nsearch corp.test\n", "hosts": "127.0.0.1 localhost\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(file, "/etc/"+name, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("SKIP-NAMESPACE: mount: %v", err)
		}
	}
}

// servePage has the server of the network serve what the scenes need.
func servePage(t *testing.T, n *porttest.Network) {
	t.Helper()
	ca := porttest.NewAuthority(t)
	expired := ca.Issue(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames, c.IPAddresses = "web.test", []string{"web.test", "www.web.test"}, nil
		c.NotBefore, c.NotAfter = time.Now().Add(-700*24*time.Hour), time.Now().Add(-547*24*time.Hour-time.Hour)
	})
	n.Server.Do(t, func() {
		porttest.Filter(t, "input", "tcp dport 81 drop")
		serveNames(t)
		secure, err := tls.Listen("tcp", "198.51.100.2:443", &tls.Config{Certificates: []tls.Certificate{expired}})
		if err != nil {
			t.Fatal(err)
		}
		porttest.Serve(t, secure, func(c net.Conn) { _ = c.(*tls.Conn).Handshake() })
		plain, err := net.Listen("tcp4", "0.0.0.0:8080")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		go func() { _ = server.Serve(plain) }()
		t.Cleanup(func() { _ = server.Close() })
	})
}

// serveNames answers for web.test, an alias, and both.test, which has IPv6 too.
func serveNames(t *testing.T) {
	t.Helper()
	answerNames(t, "198.51.100.2:53", map[string][]string{
		"web.test.":  {"web.test. 60 IN CNAME front.test.", "front.test. 60 IN A 198.51.100.2"},
		"both.test.": {"both.test. 60 IN A 198.51.100.2", "both.test. 60 IN AAAA 2001:db8:2::2"},
	})
}

// answerNames answers questions of names with their records of that type and their
// aliases.
func answerNames(t *testing.T, address string, records map[string][]string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		reply.RecursionAvailable = true // else the next server is asked
		known, ok := records[q.Question[0].Name]
		if !ok {
			reply.Rcode = dns.RcodeNameError
		}
		for _, text := range known {
			rr, err := dns.NewRR(text)
			if kind := rr.Header().Rrtype; err == nil && (kind == q.Question[0].Qtype || kind == dns.TypeCNAME) {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		_ = w.WriteMsg(reply)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
}

// breakHost has this host be as the scenes have it.
func breakHost(t *testing.T) {
	t.Helper()
	setPorts("50000 59999")(t, nil)
	porttest.Redis(t)
	porttest.AwaitListening(t, "127.0.0.1:6379")
	porttest.Listen(t, "127.0.0.1:7000", 1)
	porttest.Dial(t, "127.0.0.1:7000")
	porttest.Dial(t, "127.0.0.1:7000")
	porttest.Listen(t, "0.0.0.0:7001", 5)
	porttest.Filter(t, "input", "tcp dport 7001 reject with tcp reset")
}

// setPorts sets the ephemeral ports of this host.
func setPorts(ports string) func(*testing.T, *porttest.Network) {
	return func(t *testing.T, _ *porttest.Network) { porttest.Sysctl(t, "net/ipv4/ip_local_port_range", ports) }
}

// useUpPorts leaves two ephemeral ports, both in use towards the server.
func useUpPorts(t *testing.T, n *porttest.Network) {
	setPorts("40000 40001")(t, n)
	porttest.Dial(t, "198.51.100.2:8080")
	porttest.Dial(t, "198.51.100.2:8080")
}

// answerElsewhere gives the server an address that the router knows, and a second way
// back to this host.
func answerElsewhere(t *testing.T, n *porttest.Network) {
	n.Client.Connect(t, "eth1", n.Server, "eth1")
	porttest.Address(t, "eth1", "192.0.2.130/30")
	n.Router.Do(t, func() { porttest.Route(t, "203.0.113.0/24", porttest.ServerIP4) })
	n.Server.Do(t, func() {
		porttest.Address(t, "lo", "203.0.113.1/32")
		porttest.Address(t, "eth1", "192.0.2.129/30")
		porttest.Route(t, "192.0.2.2/32", "192.0.2.130")
		porttest.Sysctl(t, "net/ipv4/conf/eth1/arp_announce", "2") // its requests would fail the test of the other side
		porttest.Sysctl(t, "net/ipv4/conf/all/rp_filter", "0")
		porttest.Sysctl(t, "net/ipv4/conf/eth0/rp_filter", "0")
		porttest.Listen(t, "203.0.113.1:80", 5)
	})
	porttest.Sysctl(t, "net/ipv4/conf/eth1/rp_filter", "1")
}
