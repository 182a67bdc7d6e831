package rival

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// names are cases of the prober dns.
func (s *site) names() []contest {
	zone := func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		switch q.Question[0].Qtype {
		case dns.TypeSOA:
			reply.Answer = records("a.test. 300 IN SOA ns.a.test. root.a.test. 2026010203 3600 600 86400 300")
		case dns.TypeA:
			reply.Answer = records("a.test. 300 IN A 192.0.2.1", "a.test. 300 IN A 192.0.2.2")
			reply.Ns = records("a.test. 300 IN NS ns.a.test.")
			reply.Extra = records("ns.a.test. 300 IN A 192.0.2.53")
		}
		if !q.RecursionDesired {
			reply.Answer = nil
		}
		_ = w.WriteMsg(reply)
	}
	rcode := func(code int) string {
		return s.nameServer(func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, code)) })
	}
	server, secure := s.nameServer(zone), s.nameServerTLS(zone)
	a := "query_name: a.test, query_type: A"
	tcp := a + ", transport_protocol: tcp"
	trusting := tcp + ", dns_over_tls: true, tls_config: {ca_file: " + s.ca + "}"
	cases := []contest{
		{name: "dns", module: "{" + a + "}", target: server},
		{name: "dns, TCP", module: "{" + tcp + "}", target: server},
		{name: "dns, TLS", module: "{" + trusting + "}", target: secure},
		{name: "dns, TLS, another issuer", module: "{" + tcp + ", dns_over_tls: true}", target: secure},
		{name: "dns, TLS without checks", module: "{" + tcp + ", dns_over_tls: true, tls_config: {insecure_skip_verify: true}}", target: secure},
		{name: "dns, name", module: "{" + ip4 + a + "}", target: strings.Replace(server, "127.0.0.1", "localhost", 1)},
		{name: "dns, from an address", module: "{source_ip_address: 127.0.0.1, " + a + "}", target: server},
		{name: "dns, any type", module: "{query_name: a.test}", target: server},
		{name: "dns, class", module: "{query_class: CH, query_type: TXT, query_name: version.bind}", target: server},
		{name: "dns, SOA", module: "{query_name: a.test, query_type: SOA}", target: server},
		{name: "dns, SOA, TCP", module: "{query_name: a.test, query_type: SOA, transport_protocol: tcp}", target: server},
		{name: "dns, SOA that is not there", module: "{query_name: a.test, query_type: SOA, recursion_desired: false}", target: server},
		{name: "dns, no recursion", module: "{recursion_desired: false, " + a + "}", target: server},
		{name: "dns, NXDOMAIN", module: "{" + a + "}", target: rcode(dns.RcodeNameError)},
		{name: "dns, NXDOMAIN is wanted", module: "{valid_rcodes: [NXDOMAIN], " + a + "}", target: rcode(dns.RcodeNameError)},
		{name: "dns, one of two codes", module: "{valid_rcodes: [SERVFAIL, NXDOMAIN], " + a + "}", target: rcode(dns.RcodeNameError)},
		{name: "dns, SERVFAIL", module: "{" + a + "}", target: rcode(dns.RcodeServerFailure)},
		{name: "dns, a code that is none", module: "{valid_rcodes: [NONSENSE], " + a + "}", target: server},
		{name: "dns, no port", module: "{" + a + "}", target: "127.0.0.9", timeout: "1s"},
		{name: "dns, closed port", module: "{" + a + "}", target: "127.0.0.1:1"},
		{name: "dns, closed port, TCP", module: "{" + tcp + "}", target: "127.0.0.1:1"},
		{name: "dns, silent", module: "{" + a + "}", target: s.nameServer(func(dns.ResponseWriter, *dns.Msg) {}), timeout: "1s"},
		{name: "dns, silent, TCP", module: "{" + tcp + "}", target: s.accept(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), timeout: "1s"},
		{name: "dns, closed", module: "{" + tcp + "}", target: s.accept(func(net.Conn) {})},
		{name: "dns, another protocol", module: "{" + tcp + "}", target: s.accept(func(c net.Conn) { _, _ = io.WriteString(c, "\x00\x0422\r\n") })},
		{name: "dns, no such name", module: "{" + a + "}", target: "nothing.invalid"},
		{name: "dns, no IPv6", module: "{preferred_ip_protocol: ip6, ip_protocol_fallback: false, " + a + "}", target: "127.0.0.1"},
		{name: "dns, TLS over UDP", module: "{dns_over_tls: true, " + a + "}", target: server},
	}
	for _, section := range []string{"answer", "authority", "additional"} {
		for _, rule := range []string{"fail_if_matches_regexp", "fail_if_all_match_regexp", "fail_if_not_matches_regexp", "fail_if_none_matches_regexp"} {
			for _, expression := range []string{"192.0.2.1", "IN", "nothing"} {
				cases = append(cases, contest{
					name: fmt.Sprintf("dns, %s, %s, %s", section, rule, expression), target: server,
					module: fmt.Sprintf("{%s, validate_%s_rrs: {%s: ['%s']}}", a, section, rule, expression),
				})
			}
		}
	}
	return of("dns", cases)
}

// pings are cases of the prober icmp.
func (s *site) pings() []contest {
	return of("icmp", []contest{
		{name: "icmp", target: "127.0.0.1"},
		{name: "icmp, name", module: "{preferred_ip_protocol: ip4}", target: "localhost"},
		{name: "icmp, payload", module: "{payload_size: 1200}", target: "127.0.0.1"},
		{name: "icmp, a large payload", module: "{payload_size: 60000}", target: "127.0.0.1"},
		{name: "icmp, TTL", module: "{ttl: 5}", target: "127.0.0.1"},
		{name: "icmp, unfragmented", module: "{dont_fragment: true}", target: "127.0.0.1"},
		{name: "icmp, unfragmented with a TTL", module: "{dont_fragment: true, ttl: 7}", target: "127.0.0.1"},
		{name: "icmp, from an address", module: "{source_ip_address: 127.0.0.1}", target: "127.0.0.2"},
		{name: "icmp, no such name", target: "nothing.invalid"},
		{name: "icmp, no IPv6", module: "{preferred_ip_protocol: ip6, ip_protocol_fallback: false}", target: "127.0.0.1"},
	})
}

// streams are cases of the probers tcp and unix.
func (s *site) streams() []contest {
	greet := func(c net.Conn) {
		fmt.Fprint(c, "220 mail.test ESMTP\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Fprintf(c, "250 %s\r\n", line)
	}
	greeter := s.accept(greet)
	secure := s.acceptTLS(greet)
	trusting := "tls: true, tls_config: {ca_file: " + s.ca + "}"
	dialogue := "query_response: [{expect: '^220 (.*) ESMTP', send: 'EHLO ${1}', labels: [{name: host, value: '${1}'}]}, {expect: '^250'}]"
	path := s.unix(greet)
	cases := of("tcp", []contest{
		{name: "tcp", target: greeter},
		{name: "tcp, name", module: "{preferred_ip_protocol: ip4}", target: strings.Replace(greeter, "127.0.0.1", "localhost", 1)},
		{name: "tcp, from an address", module: "{source_ip_address: 127.0.0.1}", target: greeter},
		{name: "tcp, dialogue", module: "{" + dialogue + "}", target: greeter},
		{name: "tcp, bytes", module: "{query_response: [{expect_bytes: '220 mail'}]}", target: greeter},
		{name: "tcp, other bytes", module: "{query_response: [{expect_bytes: '221 mail'}]}", target: greeter},
		{name: "tcp, another line", module: "{query_response: [{expect: '^554'}]}", target: s.accept(func(c net.Conn) {
			greet(c)
			_, _ = io.Copy(io.Discard, c)
		})},
		{name: "tcp, TLS", module: "{" + trusting + "}", target: secure},
		{name: "tcp, TLS and a dialogue", module: "{" + trusting + ", " + dialogue + "}", target: secure},
		{name: "tcp, another issuer", module: "{tls: true}", target: secure},
		{name: "tcp, no TLS", module: "{tls: true}", target: greeter},
		{name: "tcp, closed port", target: "127.0.0.1:1"},
		{name: "tcp, closed before the line", module: "{query_response: [{expect: x}]}", target: s.accept(func(net.Conn) {})},
		{name: "tcp, no such name", target: "nothing.invalid:80"},
	})
	return append(cases, of("unix", []contest{
		{name: "unix", target: path},
		{name: "unix, dialogue", module: "{" + dialogue + "}", target: path},
		{name: "unix, no such path", target: path + ".none"},
	})...)
}

// health are cases of the prober grpc.
func (s *site) health() []contest {
	server := s.grpc()
	secure := s.grpc(grpc.Creds(credentials.NewTLS(s.serving())))
	trusting := "tls: true, tls_config: {ca_file: " + s.ca + "}"
	return of("grpc", []contest{
		{name: "grpc", module: "{preferred_ip_protocol: ip4}", target: server},
		{name: "grpc, service", module: "{preferred_ip_protocol: ip4, service: up}", target: server},
		{name: "grpc, service that is down", module: "{preferred_ip_protocol: ip4, service: down}", target: server},
		{name: "grpc, no such service", module: "{preferred_ip_protocol: ip4, service: nothing}", target: server},
		{name: "grpc, TLS", module: "{preferred_ip_protocol: ip4, " + trusting + "}", target: secure},
		{name: "grpc, metadata", module: "{preferred_ip_protocol: ip4, metadata: {a: [b]}}", target: server},
		{name: "grpc, closed port", module: "{preferred_ip_protocol: ip4}", target: "127.0.0.1:1"},
	})
}

// of sets the prober of cases.
func of(prober string, cases []contest) []contest {
	for i := range cases {
		cases[i].prober = prober
	}
	return cases
}

// serving is the configuration of a server that clients trust.
func (s *site) serving() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{s.valid}} }

func records(texts ...string) (all []dns.RR) {
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		all = append(all, rr)
	}
	return all
}

// nameServer answers over UDP and TCP on the same port.
func (s *site) nameServer(answer dns.HandlerFunc) string {
	for range 20 {
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			s.t.Fatal(err)
		}
		tcp, err := net.Listen("tcp4", udp.LocalAddr().String())
		if err != nil {
			_ = udp.Close() // the TCP port of that number is taken
			continue
		}
		s.serveNames(&dns.Server{PacketConn: udp, Handler: answer})
		s.serveNames(&dns.Server{Listener: tcp, Handler: answer})
		return udp.LocalAddr().String()
	}
	s.t.Fatal("no port is free for both UDP and TCP")
	return ""
}

func (s *site) nameServerTLS(answer dns.HandlerFunc) string {
	l, err := tls.Listen("tcp4", "127.0.0.1:0", s.serving())
	if err != nil {
		s.t.Fatal(err)
	}
	s.serveNames(&dns.Server{Listener: l, Handler: answer})
	return l.Addr().String()
}

func (s *site) serveNames(server *dns.Server) {
	go func() { _ = server.ActivateAndServe() }()
	s.t.Cleanup(func() { _ = server.Shutdown() })
}

func (s *site) acceptTLS(serve func(net.Conn)) string {
	return s.accept(func(c net.Conn) { serve(tls.Server(c, s.serving())) })
}

func (s *site) unix(serve func(net.Conn)) string {
	path := filepath.Join(s.t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		s.t.Fatal(err)
	}
	porttest.Serve(s.t, l, serve)
	return path
}

func (s *site) grpc(options ...grpc.ServerOption) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server, states := grpc.NewServer(options...), health.NewServer()
	states.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	states.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, states)
	go func() { _ = server.Serve(l) }()
	s.t.Cleanup(server.Stop)
	return l.Addr().String()
}
