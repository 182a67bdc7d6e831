package probetest_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestCheckOfFullQueueInNamespace checks a service of this host that does not accept:
// the first line names the cause, and no other.
func TestCheckOfFullQueueInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Listen(t, "127.0.0.1:81", 1)
	for range 2 { // a queue takes one more than its limit
		porttest.Dial(t, "127.0.0.1:81")
	}
	out, said, status := porttest.EndedAs(t, nil, "port_exporter", "check", "--timeout=1s", "127.0.0.1:81")
	full := regexp.MustCompile(`^127\.0\.0\.1:81 does not take the connection: the accept queue of .*\(pid \d+.*\) is full \(2 of 1\)\.$`)
	headline, rest, _ := strings.Cut(out, "\n")
	if status != 1 || !full.MatchString(headline) ||
		!strings.Contains(rest, "listens on 127.0.0.1:81 (this host only), queue 2/1, full: the service does not accept") {
		t.Errorf("status %d, said %q\n%s", status, said, out)
	}
}

// TestCheckNamesTheRuleInNamespace has a firewall of this host in the way.
func TestCheckNamesTheRuleInNamespace(t *testing.T) {
	porttest.NewNetwork(t)
	porttest.Listen(t, "0.0.0.0:82", 1)
	porttest.NFT(t, `table inet filter {
	chain output {
		type filter hook output priority 0; policy accept;
		ip daddr 198.51.100.2 tcp dport 81 reject with tcp reset
		ip daddr 198.51.100.2 tcp dport 83 drop
	}
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iifname "lo" accept
		ip saddr 10.0.0.0/8 tcp dport 82 accept
	}
}
`)
	for target, want := range map[string]string{
		"198.51.100.2:81":          `is rejected by a firewall rule of this host \(inet filter output handle \d+\)`,
		"198.51.100.2:83":          `is dropped by a firewall rule of this host \(inet filter output handle \d+\)`,
		porttest.ClientIP4 + ":82": `firewall +for other hosts: limited from 10\.0\.0\.0/8 \(inet filter input handle \d+\)`,
	} {
		out, said, _ := porttest.EndedAs(t, nil, "port_exporter", "check", "--timeout=1s", target)
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: want %s, said %q\n%s", target, want, said, out)
		}
	}
}

// TestCheckOfARouteByPortInNamespace has a rule that chooses by protocol and port: the
// line of the route agrees with the verdict, and names the rule.
func TestCheckOfARouteByPortInNamespace(t *testing.T) {
	porttest.NewNetwork(t)
	for _, args := range []string{"rule add pref 50 ipproto tcp dport 82 prohibit", "rule add pref 51 ipproto udp dport 82 blackhole"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	for target, want := range map[string]string{
		porttest.ServerIP4 + ":82":            `failed +route +\S+: rule 50: from all to all ipproto tcp dport 82 prohibit`,
		"udp://" + porttest.ServerIP4 + ":82": `failed +route +\S+: rule 51: from all to all ipproto udp dport 82 blackhole`,
		porttest.ServerIP4 + ":83":            `ok +route +\S+: via ` + regexp.QuoteMeta(porttest.RouterClientIP4),
	} {
		out, said, _ := porttest.EndedAs(t, nil, "port_exporter", "check", "--timeout=5s", target)
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: want %s, said %q\n%s", target, want, said, out)
		}
	}
}

// TestCheckWaitsInNamespace has a service start while check waits for it.
func TestCheckWaitsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	cmd := exec.CommandContext(t.Context(), "port_exporter", "check", "--wait=1m", "127.0.0.1:84")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	porttest.Listen(t, "127.0.0.1:84", 1)
	if err := cmd.Wait(); err != nil || !strings.HasPrefix(out.String(), "127.0.0.1:84 is open.\n") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// TestCheckWatchesInNamespace stops a service while check watches it: a report for each
// change, and a line for each round that says the same.
func TestCheckWatchesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	listener := porttest.Listen(t, "127.0.0.1:84", 100)
	cmd := exec.CommandContext(t.Context(), "port_exporter", "check", "--watch", "127.0.0.1:84")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var seen []string
	again := regexp.MustCompile(`^\d\d:\d\d:\d\d  127\.0\.0\.1:84 is open, `)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		switch line := lines.Text(); {
		case again.MatchString(line) && !slices.Contains(seen, "again"):
			seen = append(seen, "again")
			porttest.Close(t, listener)
		case line == "127.0.0.1:84 is open.":
			seen = append(seen, "open")
		case strings.HasPrefix(line, "127.0.0.1:84 refuses: "):
			if diff := cmp.Diff([]string{"open", "again"}, seen); diff != "" {
				t.Errorf("before it refuses (-want +got):\n%s", diff)
			}
			return
		}
	}
	t.Errorf("it ended: %v", seen)
}

// TestCheckBehindTranslationInNamespace has a listener whose port a rule sends elsewhere,
// as docker does with those it publishes: the listener has no say.
func TestCheckBehindTranslationInNamespace(t *testing.T) {
	porttest.NewNetwork(t)
	porttest.Listen(t, "0.0.0.0:82", 1)
	porttest.NFT(t, `table ip nat {
	chain output {
		type nat hook output priority -100;
		ip daddr != 127.0.0.0/8 tcp dport 82 dnat to 127.0.0.1:83
		tcp dport 84 redirect to 85
	}
}
`)
	for target, want := range map[string]string{
		porttest.ClientIP4 + ":82": `82 \(sent to 127\.0\.0\.1:83 by a rule of this host, ip nat output handle \d+\) refuses: (?s).*unknown +listener .*Try: port_exporter check 127\.0\.0\.1:83`,
		"198.51.100.2:84":          `84 \(sent to port 85 of this host by a rule of this host, ip nat output handle \d+\) refuses: (?s).*Try: port_exporter check 127\.0\.0\.1:85`,
	} {
		out, said, _ := porttest.EndedAs(t, nil, "port_exporter", "check", "--timeout=2s", target)
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: want %s, said %q\n%s", target, want, said, out)
		}
	}
}

// checked is what check makes of a cause.
type checked struct {
	verdict, place, next string // those of IPv4 and IPv6, if they differ; next is a part of it
	status               int
	evidence             []string // "mark topic text", parts of the text
}

// checkedCauses is what check makes of each cause of [porttest.Causes].
func checkedCauses() map[string]checked {
	open := checked{"open", "", "", 0, []string{"ok connect round trip", "ok connect MSS"}}
	refused := checked{"refused", "there", "start the service there", 1, []string{"ok route via", "failed connect connection refused"}}
	there := checked{"target_rule_rejects", "there", "allow tcp port 80 there", 1, []string{"ok route via"}}
	path := checked{"path_rejects", "path", "ask who runs " + "ROUTER", 1, nil}
	here := checked{"local_rule_rejects", "here", "nft -a list chain inet ", 1, []string{"failed firewall rules of this host"}}
	silence := checked{"no_answer", "unknown", "check --trace TARGET", 1, []string{"failed connect no answer"}}
	silent := checked{"service_silent", "there", "", 1, []string{"ok connect MSS"}}
	down := checked{"host_down", "there", "", 1, nil}
	return map[string]checked{
		"listener that accepts":         open,
		"listener that does not accept": open,
		"first SYN lost":                {"open", "", "", 0, []string{"ok connect SYN sent 2 times"}},

		"port closed": refused, "listener on loopback only": refused, "server rejects with RST": refused, "router rejects with RST": refused,
		"server rejects": there, "router rejects": path, "client rejects": here,
		"server prohibits": there, "router prohibits": path, "client prohibits": here, "router's route prohibits": path,
		"net prohibited": path, "host prohibited": path, "source address against the policy": path,

		"router has no route":           {"path_no_route", "path", "ask who runs ROUTER", 1, nil},
		"router's route is unreachable": {"host_down path_no_route", "there path", "ask who runs ROUTER", 1, nil},
		"server knows no such protocol": there,
		"routing loop":                  {"routing_loop", "path", "ask who runs", 1, nil},
		"host down on our own segment":  {"host_down", "there", "start the host", 1, []string{"failed neighbour failed"}},
		"host down behind the router":   down, "DNAT to a host that is down": down,

		"server drops": silence, "router drops": silence, "router drops the answer": silence, "router's route is a blackhole": silence,
		"SYN sent in vain":    {"no_answer", "unknown", "check --trace TARGET", 1, []string{"failed connect SYN sent "}},
		"accept queue full":   silence,
		"client drops":        {"local_rule_drops", "here", "nft -a list chain inet ", 1, []string{"failed filter did not leave this host", "failed connect SYN sent "}},
		"SYN retries used up": {"no_answer", "unknown", "check --trace TARGET", 1, []string{"failed connect connection timed out"}},

		"client's route is a blackhole": {"route_blackhole", "here", "ip route get", 1, []string{"failed route blackhole"}},
		"client's route is unreachable": {"route_unreachable", "here", "ip route get", 1, []string{"failed route unreachable"}},
		"client has no route":           {"no_route", "here", "ip route get", 1, []string{"failed route no route"}},
		"client's route prohibits":      {"route_prohibits", "here", "ip route get", 1, []string{"failed route prohibit"}},
		"no port left":                  {"no_ephemeral_port", "here", "ss -tan dst", 2, []string{"failed ports 2 of 2 ephemeral ports (40000–40001)"}},

		"RST behind the handshake":     {"connection_reset", "there", "the service's log", 1, nil},
		"FIN instead of an answer":     {"connection_closed", "there", "the service's log", 1, nil},
		"silence instead of an answer": silent, "long packets lost, TLS": silent, "long packets lost, exchange": silent,
	}
}

// TestCheckOfEveryCauseInNamespace has check report, as text and as JSON, why a client
// cannot reach a server.
func TestCheckOfEveryCauseInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("docs/schemas/check.json")
	if err != nil {
		t.Fatal(err)
	}
	want := checkedCauses()
	causes := porttest.Causes()
	if len(want) != len(causes) {
		t.Errorf("%d verdicts for %d causes", len(want), len(causes))
	}
	for _, c := range causes {
		for _, version := range []string{"IPv4", "IPv6"} {
			if v6 := version == "IPv6"; c.Has(v6) {
				t.Run(c.Name+"/"+version, func(t *testing.T) {
					t.Parallel()
					w, ok := want[c.Name]
					if !ok {
						t.Fatal("no verdict is about it")
					}
					w.compare(t, &c, v6, schema)
				})
			}
		}
	}
}

// report is a line of check --output=json, as far as it is compared.
type report struct {
	Verdict, Place, Sentence, Next string
	Evidence                       []struct{ Mark, Topic, Text string }
}

func (w *checked) compare(t *testing.T, c *porttest.Cause, v6 bool, schema *jsonschema.Schema) {
	n := porttest.NewNetwork(t)
	c.Make(t, n, v6)
	args := []string{"check", c.Target(v6)}
	switch c.Speak {
	case porttest.Nothing:
	case porttest.Hears:
		args = append(args, "--module=banner", "--config.file="+write(t, `modules: {banner: {prober: tcp, tcp: {query_response: [{expect: "^220 "}]}}}`))
	case porttest.ShakesHands:
		args = append(args, "--tls")
	}
	switch {
	case c.Name == "client drops": // what shows it is the first retransmit, after a second
		args = append(args, "--timeout=2500ms")
	case c.Wait > 0:
		args = append(args, "--timeout="+c.Wait.String())
	}
	asJSON := append(args, "--output=json")
	runs := []asked{{args: args}, {args: asJSON}}
	if c.Speak != porttest.Hears { // the user nobody cannot read the file of the test
		runs = append(runs, asked{asJSON, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}})
	}
	outs, statuses := runBeside(t, runs)
	for i, status := range statuses {
		if status != w.status {
			t.Errorf("run %d: status %d, want %d", i, status, w.status)
		}
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(outs[1]))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, outs[1])
	}
	var got report
	_ = json.Unmarshal([]byte(outs[1]), &got)
	w.compareReport(t, c, v6, &got, outs[0])
	if len(outs) > 2 {
		var unprivileged report
		_ = json.Unmarshal([]byte(outs[2]), &unprivileged)
		if unprivileged.Verdict != got.Verdict || unprivileged.Place != got.Place || (unprivileged.Next == "") != (got.Next == "") {
			t.Errorf("unprivileged: %+v\nas root: %+v", unprivileged, got)
		}
	}
}

func (w *checked) compareReport(t *testing.T, c *porttest.Cause, v6 bool, got *report, text string) {
	t.Helper()
	router := porttest.RouterClientIP4
	if v6 {
		router = porttest.RouterClientIP6
	}
	next := strings.NewReplacer("ROUTER", router, "TARGET", c.Target(v6)).Replace(w.next)
	verdict, place := ofVersion(w.verdict, v6), ofVersion(w.place, v6)
	if got.Verdict != verdict || got.Place != place || !strings.Contains(got.Next, next) || (next == "") != (got.Next == "") && w.next != "" {
		t.Errorf("%s (%s), try %q; want %s (%s), try %q", got.Verdict, got.Place, got.Next, verdict, place, next)
	}
	headline, rest, _ := strings.Cut(text, "\n")
	if headline != got.Sentence+"." || !strings.HasPrefix(headline, c.Target(v6)+" ") {
		t.Errorf("the text begins with %q, the JSON has %q", headline, got.Sentence)
	}
	for _, e := range w.evidence {
		fields := strings.SplitN(e, " ", 3)
		found := false
		for _, g := range got.Evidence {
			found = found || g.Mark == fields[0] && g.Topic == fields[1] && strings.Contains(g.Text, fields[2])
		}
		line := regexp.MustCompile(`(?m)^  ` + fields[0] + ` +` + fields[1] + ` +.*` + regexp.QuoteMeta(fields[2]))
		if !found || !line.MatchString(rest) {
			t.Errorf("no evidence %q in\n%s", e, text)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// ofVersion returns the part of a text that is about a version of IP.
func ofVersion(text string, v6 bool) string {
	four, six, differ := strings.Cut(text, " ")
	if v6 && differ {
		return six
	}
	return four
}

// asked is a command line of port_exporter, and who runs it.
type asked struct {
	args []string
	as   *syscall.SysProcAttr
}

// runBeside runs port_exporter several times concurrently, in the namespace of the test.
func runBeside(t *testing.T, all []asked) (outs []string, statuses []int) {
	t.Helper()
	commands, stdout := make([]*exec.Cmd, len(all)), make([]bytes.Buffer, len(all))
	for i, a := range all {
		commands[i] = exec.CommandContext(t.Context(), "port_exporter", a.args...)
		commands[i].SysProcAttr = a.as
		commands[i].Stdout, commands[i].Stderr = &stdout[i], t.Output()
		if err := commands[i].Start(); err != nil { // on this thread, which is in the namespace
			t.Fatal(err)
		}
	}
	var ended sync.WaitGroup
	for _, c := range commands {
		ended.Go(func() { _ = c.Wait() })
	}
	ended.Wait()
	for i, c := range commands {
		outs, statuses = append(outs, stdout[i].String()), append(statuses, c.ProcessState.ExitCode())
	}
	return outs, statuses
}

// TestListenersBehindAFirewallInNamespace lists what the firewall does with listeners, and
// what it sends elsewhere.
func TestListenersBehindAFirewallInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Listen(t, "0.0.0.0:82", 1)
	porttest.Listen(t, "[::]:83", 1)
	porttest.Listen(t, "127.0.0.1:84", 1)
	before, _, _ := porttest.EndedAs(t, nil, "port_exporter", "listeners")
	if strings.Contains(before, "FIREWALL") {
		t.Errorf("without rules:\n%s", before)
	}
	porttest.NFT(t, `table inet filter {
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		ip saddr 10.0.0.0/8 tcp dport 82 accept
		meta nfproto ipv6 tcp dport 83 accept
	}
}
table ip nat {
	chain DOCKER { type nat hook prerouting priority -100; tcp dport 8080 dnat to 172.17.0.2:80; }
}
`)
	out, said, _ := porttest.EndedAs(t, nil, "port_exporter", "listeners")
	for _, want := range []string{
		`tcp +0\.0\.0\.0 +82 .* limited: 10\.0\.0\.0/8\n`, `tcp +:: +83 .* limited: IPv6\n`, `tcp +127\.0\.0\.1 +84 .* -\n`,
		`tcp +\* +8080 +published +- +to 172\.17\.0\.2 port 80 \(ip nat DOCKER handle \d+\)`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("want %s, said %q\n%s", want, said, out)
		}
	}
	asJSON, _, _ := porttest.EndedAs(t, nil, "port_exporter", "listeners", "--output=json")
	asCSV, _, _ := porttest.EndedAs(t, nil, "port_exporter", "listeners", "--output=csv")
	for _, want := range []string{`"published": \[`, `"to_address": "172\.17\.0\.2"`, `"verdict": "limited"`, `"rule": "inet filter input handle \d+"`} {
		if !regexp.MustCompile(want).MatchString(asJSON) {
			t.Errorf("want %s in\n%s", want, asJSON)
		}
	}
	if !strings.Contains(asCSV, ",tcp,,8080,,published,") {
		t.Errorf("got\n%s", asCSV)
	}
}
