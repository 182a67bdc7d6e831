package fleettest

import (
	"fmt"
	"go/token"
	"go/types"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const typicalPolicy = `
policy:
  rules:
    - {name: ssh, ports: 22, required: true}
    - {name: http, ports: 80, required: true}
    - {name: https, ports: 443, required: true}
    - {name: local, scope: loopback}
    - {name: metrics, ports: [9100, 10065]}
`

// typicalHost opens what a web server has: its listeners, unix sockets, and
// connections to it and from it.
func typicalHost(t *testing.T) {
	t.Helper()
	listeners := map[string]int{}
	for _, address := range []string{"0.0.0.0:22", "0.0.0.0:80", "0.0.0.0:443", "127.0.0.1:25", "127.0.0.1:6379", "127.0.0.53:53", "0.0.0.0:9100", "127.0.0.1:9000"} {
		listeners[address] = porttest.Listen(t, address, 128)
	}
	for _, address := range []string{"[::]:22", "[::]:80", "[::]:443"} {
		porttest.Listen(t, address, 128, porttest.V6Only(true))
	}
	for _, address := range []string{"127.0.0.53:53", "0.0.0.0:68", "127.0.0.1:323", "[::1]:323"} {
		porttest.UDP(t, address)
	}
	for n := range 8 {
		l, err := net.Listen("unix", fmt.Sprintf("@service-%d", n))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	for address, connections := range map[string]int{"127.0.0.1:22": 2, "127.0.0.1:80": 5, "127.0.0.1:443": 30, "127.0.0.1:6379": 10, "127.0.0.1:9100": 1, "127.0.0.1:9000": 6} {
		listener, ok := listeners[address]
		if !ok {
			listener = listeners[strings.Replace(address, "127.0.0.1", "0.0.0.0", 1)]
		}
		for range connections {
			porttest.Dial(t, address)
			porttest.Accept(t, listener)
		}
	}
}

// TestTypicalHostInNamespace counts the series of a typical host with a policy, under
// the default flags.
func TestTypicalHostInNamespace(t *testing.T) {
	porttest.Namespace(t)
	typicalHost(t)
	byFamily := count(scrapeHost(t, typicalPolicy))
	total := 0
	for _, n := range byFamily {
		total += n
	}
	t.Logf("%d series of %d families", total, len(byFamily))
	if total >= 600 || byFamily["port_listener_info"] != 16 || byFamily["port_outbound_connections"] < 20 || byFamily["port_policy_rule_info"] != 5 {
		t.Errorf("%d series, want fewer than 600 of a whole host: %v", total, byFamily)
	}
}

// scrapeHost starts an exporter and returns what it exports.
func scrapeHost(t *testing.T, config string, flags ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "port_exporter.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	porttest.StartDaemon(t, append([]string{"port_exporter", "--config.file=" + file}, flags...)...)
	status, body := porttest.Get(t, porttest.ScrapeAddress, "/metrics")
	if status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	return body
}

// count returns the number of series by family. Those of a classic histogram are
// its family's.
func count(body string) map[string]int {
	out := map[string]int{}
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	histograms := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) histogram$`).FindAllStringSubmatch(body, -1) {
		histograms[m[1]] = true
	}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		if family := suffix.ReplaceAllString(name, ""); histograms[family] {
			name = family
		}
		out[name]++
	}
	return out
}

// bound is a row of the table of docs/fleet.md: a pattern for the names of families,
// and the most series that each of them has, as a term of the limits.
type bound struct{ families, term string }

func readBounds(t *testing.T) []bound {
	t.Helper()
	var out []bound
	for _, row := range regexp.MustCompile("(?m)^\\| (`port_[^|]*) \\| [^|]* \\| `([^`|]+)` \\| [0-9,]+ \\|$").FindAllStringSubmatch(porttest.ReadFile(t, "../../docs/fleet.md"), -1) {
		for _, m := range regexp.MustCompile("`([a-z0-9_*]+)`").FindAllStringSubmatch(row[1], -1) {
			out = append(out, bound{m[1], row[2]})
		}
	}
	if len(out) == 0 {
		t.Fatal("docs/fleet.md has no table of bounds")
	}
	return out
}

// TestBoundsNameEveryFamily looks for each family of docs/metrics.md in the table of
// docs/fleet.md. The first pattern that matches is its own.
func TestBoundsNameEveryFamily(t *testing.T) {
	bounds := readBounds(t)
	used := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(port_[a-z0-9_]+)` \\| [a-z]+ \\|").FindAllStringSubmatch(porttest.ReadFile(t, "../../docs/metrics.md"), -1) {
		b, ok := boundOf(t, bounds, m[1])
		if !ok {
			t.Errorf("docs/fleet.md has no bound for %s", m[1])
		}
		used[b.families] = true
	}
	for _, b := range bounds {
		if !used[b.families] {
			t.Errorf("docs/fleet.md: %s matches no family that an earlier pattern does not", b.families)
		}
	}
}

func boundOf(t *testing.T, bounds []bound, family string) (bound, bool) {
	t.Helper()
	for _, b := range bounds {
		if ok, err := path.Match(b.families, family); err != nil {
			t.Fatal(err)
		} else if ok {
			return b, true
		}
	}
	return bound{}, false
}

// small are limits that a crowd is far beyond.
var small = map[string]string{
	"listeners": "6", "outbound_ports": "3", "orphaned_ports": "2", "owners": "1", "destinations": "2", "watched_destinations": "2",
	"namespaces": "0", "namespace_listeners": "0", "programs": "1", "rules": "2",
}

// TestSeriesAreBoundedInNamespace scrapes a crowded host under small limits, with the
// collectors that are off by default, and compares each family with its bound.
func TestSeriesAreBoundedInNamespace(t *testing.T) {
	porttest.Namespace(t)
	typicalHost(t)
	porttest.EveryState(t, "127.0.0.1:8443")
	for port := 20001; port < 20040; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l := porttest.Listen(t, address, 8)
		porttest.Dial(t, address)
		porttest.Accept(t, l)
		porttest.UDP(t, address)
	}
	body := scrapeHost(t, `
limits: {listeners: 6, outbound_ports: 3, orphaned_ports: 2, owners: 1, destinations: 2, watched_destinations: 2}
destinations:
  watch: [{address: 127.0.0.0/8}]
policy:
  rules: [{name: ssh, ports: 22, required: true}, {name: no telnet, ports: 23, forbid: true}]
`, "--collector.closed", "--collector.health")
	bounds := readBounds(t)
	for family, n := range count(body) {
		if !strings.HasPrefix(family, "port_") {
			continue
		}
		b, ok := boundOf(t, bounds, family)
		if most := evaluate(t, b.term); ok && n > most {
			t.Errorf("%s has %d series, more than %s = %d", family, n, b.term, most)
		}
	}
	if n := count(body)["port_folded_items"]; n == 0 {
		t.Error("nothing is beyond a limit")
	}
}

// evaluate computes a bound with the limits of the crowded host.
func evaluate(t *testing.T, term string) int {
	t.Helper()
	expression := regexp.MustCompile(`[a-z_]+`).ReplaceAllStringFunc(strings.ReplaceAll(term, "×", "*"), func(name string) string {
		value, ok := small[name]
		if !ok {
			t.Fatalf("%s: no limit %s", term, name)
		}
		return value
	})
	value, err := types.Eval(token.NewFileSet(), nil, token.NoPos, expression)
	if err != nil {
		t.Fatalf("%s: %v", term, err)
	}
	var n int
	if _, err := fmt.Sscan(value.Value.ExactString(), &n); err != nil {
		t.Fatal(err)
	}
	return n
}
