package blackbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// inside is set in the process that has a network namespace of its own. The
// probers work on goroutines of their own, so a thread is not enough.
const inside = "BLACKBOX_TEST_INSIDE"

// The addresses of the namespace, of which 192.0.2.1/24 is the host's own.
const (
	silentHost = "192.0.2.2"
	deadHost   = "192.0.2.3" // answers no ARP
	prohibited = "198.51.100.1"
	blackholed = "198.51.100.2"
	rejected   = "198.51.100.3" // by a route of type unreachable
	unrouted   = "203.0.113.1"
	metadata   = "169.254.169.254"
)

// Addresses behind a router, 198.18.0.2, and what it makes of them.
const (
	routerUnreachable = "198.18.1.1"
	routerProhibited  = "198.18.1.2"
	routerBlackhole   = "198.18.1.3"
)

// namespaceFailures by the prober.
var namespaceFailures = []failure{
	{name: "http: filtered", target: at(silentHost), want: "timeout connect none"},
	{name: "http: host down on the own segment", target: at(deadHost), timeout: 5 * time.Second, want: "unreachable connect local"},
	{name: "http: prohibited by a route", target: at(prohibited), want: "prohibited connect local"},
	{name: "http: blackholed by a route", target: at(blackholed), want: "unreachable connect local"},
	{name: "http: unreachable by a route", target: at(rejected), want: "unreachable connect local"},
	{name: "http: no route", target: at(unrouted), want: "unreachable connect local"},
	{name: "http: no such name", target: at("nx.test"), want: "dns_not_found resolve none"},
	{name: "http: name server fails", target: at("fail.test"), want: "dns_error resolve none"},
	{name: "http: name server silent", target: at("silent.test"), want: "dns_timeout resolve none"},
	{name: "http: name is denied", target: at("meta.test"), deny: "169.254.", want: "denied connect local"},
	{name: "http: redirect to no such name", target: serving(redirecting("http://nx.test/")), want: "dns_not_found resolve none"},
	{name: "http: redirect to a name that is denied", target: serving(redirecting("http://meta.test/")), deny: "169.254.", want: "denied connect local"},
	{name: "http: redirect to the own name, which has another address by now", target: rebinding, deny: "169.254.", want: "refused connect target"},
	{name: "http: a proxy whose name does not exist", module: "{proxy_url: 'http://nx.test:80'}", target: at("http://127.0.0.1/"), want: "dns_not_found resolve proxy"},
	{name: "http: a proxy that is filtered", module: "{proxy_url: 'http://192.0.2.2/'}", target: at("https://127.0.0.1/"), want: "timeout connect proxy"},
	{name: "http: redirect to a filtered host", target: serving(redirecting("http://" + silentHost + "/")), want: "timeout connect none"},

	{name: "dns: filtered, UDP", module: ask, target: at(silentHost), want: "no_reply exchange none"},
	{name: "dns: filtered, TCP", module: askTCP, target: at(silentHost), want: "timeout connect none"},
	{name: "dns: prohibited by a route", module: ask, target: at(prohibited), want: "prohibited connect local"},
	{name: "dns: no route", module: ask, target: at(unrouted), want: "unreachable connect local"},
	{name: "dns: no such name", module: ask, target: at("nx.test"), want: "dns_not_found resolve none"},

	{name: "icmp: silent", target: at(silentHost), want: "timeout connect none"},
	{name: "icmp: host down on the own segment", target: at(deadHost), timeout: 4 * time.Second, want: "unreachable connect local"},
	{name: "icmp: out of a router's reach", target: at(routerUnreachable), want: "unreachable connect network"},
	{name: "icmp: prohibited by a router", target: at(routerProhibited), want: "prohibited connect network"},
	{name: "icmp: swallowed by a router", target: at(routerBlackhole), want: "timeout connect none"},
	{name: "icmp: too far away", module: "{ttl: 1}", target: at(routerUnreachable), want: "unreachable connect network"},
	{name: "icmp: out of a router's reach, IPv6", target: at("2001:db8:1::1"), want: "unreachable connect network"},
	{name: "http: out of a router's reach", target: at(routerUnreachable), want: "unreachable connect network"},
	{name: "http: prohibited by a router", target: at(routerProhibited), want: "prohibited connect network"},
	{name: "icmp: prohibited by a route", target: at(prohibited), want: "prohibited connect local"},
	{name: "icmp: blackholed by a route", target: at(blackholed), want: "unreachable connect local"},
	{name: "icmp: no route", target: at(unrouted), want: "unreachable connect local"},
	{name: "icmp: no route, IPv6", target: at("2001:db8:2::1"), want: "unreachable connect local"},
	{name: "icmp: too large for the path", module: "{payload_size: 3000, dont_fragment: true}", target: at(silentHost), want: "mismatch connect local"},
	{name: "icmp: no such name", target: at("nx.test"), want: "dns_not_found resolve none"},
	{name: "icmp: name server silent", target: at("silent.test"), want: "dns_timeout resolve none"},
	{name: "icmp: denied", target: at("web.test"), deny: "127.", want: "denied connect local"},
	{name: "icmp: no address of that version", module: "{ip_protocol_fallback: false}", target: at("127.0.0.1"), want: "dns_not_found resolve none"},
	{name: "icmp: a source that is not here", module: "{source_ip_address: 192.0.2.77}", target: at("127.0.0.1"), want: "local_error none local"},
}

// TestFailuresAreMany checks that the tables have the number of cases they were planned
// for, and says how many of them differ.
func TestFailuresAreMany(t *testing.T) {
	all := slices.Concat(httpFailures, dnsFailures, namespaceFailures)
	unknown := 0
	for _, f := range all {
		if strings.HasPrefix(f.want, "unknown") {
			unknown++
		}
	}
	t.Logf("%d cases, of which %d are unknown", len(all), unknown)
	if len(all) < 100 || unknown > 0 {
		t.Errorf("%d cases, of which %d are unknown", len(all), unknown)
	}
}

// metadataVisits counts connections to the address that is denied.
var metadataVisits atomic.Int32

func TestFailuresInNamespace(t *testing.T) {
	if os.Getenv(inside) == "" {
		runInside(t)
		return
	}
	furnish(t)
	s := newSite(t)
	t.Run("all", func(t *testing.T) {
		for _, f := range namespaceFailures {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				kind, _, _ := strings.Cut(f.name, ":")
				result := f.run(t, kind, s)
				if got := described(result); got != f.want {
					t.Errorf("got %s, want %s\n%v", got, f.want, result.Err)
				}
			})
		}
	})
	t.Run("proxies", proxiesAreHeld)
	if visits := metadataVisits.Load(); visits != 0 {
		t.Errorf("the denied address was connected to %d times", visits)
	}
	settle(t)
	t.Run("icmp", icmpOpen)
	t.Run("allowed", allowedRedirect)
}

// runInside runs the same test in a process with namespaces of its own.
func runInside(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inside+"=1", "GODEBUG=netdns=go", "http_proxy=", "HTTP_PROXY=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skip("SKIP-NAMESPACE: clone(CLONE_NEWNET) needs CAP_SYS_ADMIN")
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
}

// furnish makes interfaces, routes, a name server and a metadata server.
func furnish(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(metadata + "/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, addr); err != nil {
		t.Fatal(err)
	}
	porttest.AddVeth(t, "up", "192.0.2.1/24")
	porttest.SilentNeighbour(t, "up", silentHost)
	for to, kind := range map[string]int{prohibited: unix.RTN_PROHIBIT, blackholed: unix.RTN_BLACKHOLE, rejected: unix.RTN_UNREACHABLE} {
		dst := &net.IPNet{IP: net.ParseIP(to), Mask: net.CIDRMask(32, 32)}
		if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Type: kind}); err != nil {
			t.Fatalf("route to %s: %v", to, err)
		}
	}
	addRouter(t)
	serveMetadata(t)
	resolve(t)
}

// addRouter makes a router, in a namespace that lasts as long as the process.
func addRouter(t *testing.T) {
	t.Helper()
	porttest.AddVeth(t, "down", "198.18.0.1/24")
	down, err := netlink.LinkByName("down")
	if err != nil {
		t.Fatal(err)
	}
	if err := addAddress(down, "2001:db8::1/64"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	tids := make(chan int)
	moved := make(chan struct{})
	go func() { // its thread is never unlocked, so that nothing else gets there
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		tids <- unix.Gettid()
		<-moved
		done <- furnishRouter()
		select {}
	}()
	select {
	case err := <-done:
		t.Fatal(err)
	case tid := <-tids:
		peer, err := netlink.LinkByName("down-peer")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetNsPid(peer, tid); err != nil {
			t.Fatal(err)
		}
	}
	close(moved)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for to, via := range map[string]string{"198.18.1.0/24": "198.18.0.2", "2001:db8:1::/64": "2001:db8::2"} {
		dst, err := netlink.ParseIPNet(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}); err != nil {
			t.Fatalf("route to %s: %v", to, err)
		}
	}
}

// addAddress adds an address that is usable immediately, duplicate or not.
func addAddress(link netlink.Link, text string) error {
	addr, err := netlink.ParseAddr(text)
	if err != nil {
		return err
	}
	addr.Flags = unix.IFA_F_NODAD
	return netlink.AddrAdd(link, addr)
}

// furnishRouter does so on the thread that is in the router's namespace.
func furnishRouter() error {
	link, err := netlink.LinkByName("down-peer")
	if err != nil {
		return err
	}
	// Errors to one host are a second apart by default.
	for name, value := range map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0"} {
		if err := os.WriteFile("/proc/thread-self/root/proc/sys/net/"+name, []byte(value), 0); err != nil {
			return err
		}
	}
	for _, text := range []string{"198.18.0.2/24", "2001:db8::2/64"} {
		if err := addAddress(link, text); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for to, kind := range map[string]int{
		routerUnreachable + "/32": unix.RTN_UNREACHABLE, routerProhibited + "/32": unix.RTN_PROHIBIT,
		routerBlackhole + "/32": unix.RTN_BLACKHOLE, "2001:db8:1::1/128": unix.RTN_UNREACHABLE,
	} {
		dst, err := netlink.ParseIPNet(to)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Type: kind}); err != nil {
			return fmt.Errorf("route to %s: %w", to, err)
		}
	}
	return nil
}

func serveMetadata(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp4", metadata+":80")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secret") }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				metadataVisits.Add(1)
			}
		},
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// resolve makes a name server the one of this process.
func resolve(t *testing.T) {
	t.Helper()
	var asked sync.Map // by name
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		name, address := q.Question[0].Name, ""
		switch name {
		case "nx.test.":
			records(dns.RcodeNameError)(w, q)
			return
		case "fail.test.":
			records(dns.RcodeServerFailure)(w, q)
			return
		case "silent.test.":
			return
		case "meta.test.":
			address = metadata
		case "rebind.test.", "rebind-env.test.":
			address = metadata
			if _, again := asked.LoadOrStore(name+dns.TypeToString[q.Question[0].Qtype], true); q.Question[0].Qtype == dns.TypeA && !again {
				address = "127.0.0.1"
			}
		case "web.test.":
			address = "127.0.0.1"
		}
		if q.Question[0].Qtype != dns.TypeA {
			records(dns.RcodeSuccess)(w, q)
			return
		}
		records(dns.RcodeSuccess, name+" 0 IN A "+address)(w, q)
	})
	udp, err := net.ListenPacket("udp4", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	serveNames(t, &dns.Server{PacketConn: udp, Handler: handler})

	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
}

// rebinding redirects to its own name, which by then has another address. The
// first one is kept.
func rebinding(t *testing.T, _ *site) string {
	url := web(t, redirecting("http://rebind.test/"))
	return strings.Replace(url, "127.0.0.1", "rebind.test", 1)
}

// proxiesAreHeld has modules whose proxies are not used for the address lead to
// the metadata service.
func proxiesAreHeld(t *testing.T) {
	for _, settings := range []string{"{proxy_from_environment: true}", "{proxy_url: 'http://127.0.0.1:1', no_proxy: '127.0.0.1,169.254.169.254,meta.test'}"} {
		m := parseModule(t, probe.KindHTTP, settings)
		for _, to := range []string{"http://" + metadata + "/", "http://meta.test/"} {
			if r := configured(t, m, web(t, redirecting(to))); r.Outcome != probe.Denied {
				t.Errorf("%s to %s: %s: %v", settings, to, described(r), r.Err)
			}
		}
	}
	m := parseModule(t, probe.KindHTTP, "{proxy_from_environment: true}")
	if r := asked(t, m, "127.0.0.0/8", "http://rebind-env.test:80/", ""); r.Outcome != probe.Refused { // of 127.0.0.1
		t.Errorf("a name that is allowed once: %s: %v", described(r), r.Err)
	}
}

// icmpOpen reaches both loopback addresses.
func icmpOpen(t *testing.T) {
	for _, target := range []string{"127.0.0.1", "::1", "web.test"} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		r := newProber(t, parseModule(t, probe.KindICMP, "")).Probe(ctx, probe.Request{Address: target})
		if r.Outcome != probe.Open || r.Err != nil {
			t.Errorf("%s: %v: %v", target, r.Outcome, r.Err)
		}
		got := byName(r)
		if got["probe_icmp_duration_seconds{rtt}"] <= 0 || got["probe_icmp_duration_seconds{resolve}"] != got["probe_dns_lookup_time_seconds"] ||
			got["probe_icmp_reply_hop_limit"] != 64 {
			t.Errorf("%s: %v", target, got)
		}
	}
}

// allowedRedirect shows that the denied server answers who is allowed.
func allowedRedirect(t *testing.T) {
	var asked []string
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	r := newProber(t, parseModule(t, probe.KindHTTP, "{preferred_ip_protocol: ip4}")).Probe(ctx, probe.Request{
		Address: web(t, redirecting("http://meta.test/")),
		Allow: func(a netip.AddrPort) error {
			asked = append(asked, a.String())
			return nil
		},
	})
	if r.Outcome != probe.Open || metadataVisits.Load() != 1 || len(asked) != 2 || asked[1] != metadata+":80" {
		t.Errorf("%v %v, asked %v, %d visits", r.Outcome, r.Err, asked, metadataVisits.Load())
	}
	if r.Peer.String() != metadata+":80" {
		t.Errorf("the peer is %v", r.Peer)
	}
}
