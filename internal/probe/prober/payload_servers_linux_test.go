package prober

import (
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// realServer is a program that answers a payload. In its configuration and
// arguments DIR is a directory of the test.
type realServer struct {
	payload string
	program string
	port    string
	config  string // of the file DIR/config
	args    string
	env     string
}

// realServers are Debian packages: unbound, chrony, snmpd, coturn, kamailio.
func realServers() []realServer {
	return []realServer{
		{
			payload: "dns", program: "unbound", port: "53", args: "-d -c DIR/config",
			config: "server:\n interface: 127.0.0.1\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n" +
				" module-config: iterator\n local-zone: \".\" static\n num-threads: 1\nremote-control:\n control-enable: no\n",
		},
		{
			payload: "ntp", program: "chronyd", port: "123", args: "-d -x -u root -f DIR/config",
			config: "local stratum 10\nallow 127.0.0.1\ncmdport 0\nbindaddress 127.0.0.1\npidfile DIR/pid\n",
		},
		{payload: "snmp", program: "snmpd", port: "161", args: "-f -Le -C -c DIR/config -p DIR/pid", env: "SNMP_PERSISTENT_DIR=DIR", config: "agentAddress udp:127.0.0.1:161\n"},
		{payload: "stun", program: "turnserver", port: "3478", args: "-n -L 127.0.0.1 --no-cli --no-tls --no-dtls --log-file stdout --pidfile DIR/pid --userdb DIR/db"},
		{
			payload: "sip", program: "kamailio", port: "5060", args: "-f DIR/config -DD -E -w DIR -Y DIR -P DIR/pid -m 16 -M 4",
			config: "log_stderror=yes\nfork=no\nchildren=1\nlisten=udp:127.0.0.1:5060\nloadmodule \"sl.so\"\n" +
				"request_route {\n sl_send_reply(\"200\", \"OK\");\n}\n",
		},
	}
}

// TestPayloadsAgainstServersInNamespace has each payload answered by a program
// that many people run. Before it starts its port must be refused, and the
// payload of another protocol must not be taken for answered.
func TestPayloadsAgainstServersInNamespace(t *testing.T) {
	t.Parallel()
	for _, s := range realServers() {
		t.Run(s.payload+"/"+filepath.Base(s.program)+"/"+s.port, func(t *testing.T) {
			t.Parallel()
			porttest.Namespace(t)
			address := net.JoinHostPort("127.0.0.1", s.port)
			if result := askWith(t, s.payload, address, 10*time.Second); result.Outcome != probe.Refused {
				t.Fatalf("before it starts: %s, %v", result.Outcome, result.Err)
			}
			s.start(t)
			porttest.Await(t, "a reply", func() bool { return askWith(t, s.payload, address, 500*time.Millisecond).Outcome == probe.Open })

			other := "stun"
			if s.payload == other {
				other = "ntp"
			}
			if result := askWith(t, other, address, 500*time.Millisecond); result.Outcome == probe.Open {
				t.Errorf("%s was answered with what passes for %s", s.payload, other)
			}
		})
	}
}

// start runs the program until the test ends.
func (s realServer) start(t *testing.T) {
	t.Helper()
	reason := "SKIP-" + strings.ToUpper(filepath.Base(s.program))
	path := porttest.Program(t, reason, s.program, "/usr/sbin/"+s.program)
	dir := t.TempDir()
	in := strings.NewReplacer("DIR", dir)
	if err := os.WriteFile(dir+"/config", []byte(in.Replace(s.config)), 0o600); err != nil {
		t.Fatal(err)
	}
	// Each has a /run of its own: some write a pid there whatever their
	// configuration says, and refuse to start beside another of their kind.
	const alone = `mount --make-rprivate / && mount -t tmpfs tmpfs "$(realpath /run)" && exec "$@"`
	args := append([]string{"--mount", "sh", "-c", alone, "sh", path}, strings.Fields(in.Replace(s.args))...)
	cmd := exec.Command("unshare", args...)
	cmd.Dir = dir
	if s.env != "" {
		cmd.Env = append(os.Environ(), in.Replace(s.env))
	}
	porttest.Start(t, cmd)
}

func askWith(t *testing.T, name, address string, within time.Duration) probe.Result {
	t.Helper()
	return probeFor(t, &UDP{Payload: payloadNamed(t, name)}, within, probe.Request{Address: address})
}

// TestDNSPayloadAgainstLibrary asks a server of miekg/dns, the way that
// blackbox_exporter speaks DNS.
func TestDNSPayloadAgainstLibrary(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		asked <- query.Question[0].String()
		reply := new(dns.Msg).SetReply(query)
		reply.Answer = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "a.root-servers.net."}}
		_ = w.WriteMsg(reply)
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() { conn.Close(); <-done })
	if result := askWith(t, "dns", conn.LocalAddr().String(), 5*time.Second); result.Outcome != probe.Open {
		t.Errorf("%s: %v", result.Outcome, result.Err)
	}
	if got, want := <-asked, ";.\tIN\t NS"; got != want {
		t.Errorf("question %q, want %q", got, want)
	}
}

// TestQUICPayloadAgainstLibrary asks a server of quic-go.
func TestQUICPayloadAgainstLibrary(t *testing.T) {
	t.Parallel()
	listener, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{porttest.SelfSigned(t)}, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if result := askWith(t, "quic", listener.Addr().String(), 5*time.Second); result.Outcome != probe.Open {
		t.Errorf("%s: %v", result.Outcome, result.Err)
	}
	if result := askWith(t, "ntp", listener.Addr().String(), 500*time.Millisecond); result.Outcome != probe.NoReply {
		t.Errorf("ntp: %s: %v", result.Outcome, result.Err)
	}
}
