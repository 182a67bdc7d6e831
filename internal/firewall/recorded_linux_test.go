package firewall

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// recordedFile has what a kernel answered about the rules of a few stories: a kind of message a
// line, and its bytes. FIREWALL_RECORD=1 writes it anew.
const recordedFile = "testdata/recorded.txt"

// recorded is all messages of one story, in their order.
type recorded []struct {
	kind string
	data []byte
}

func readRecorded(t testing.TB) map[string]recorded {
	t.Helper()
	f, err := os.Open(recordedFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, story := map[string]recorded{}, ""
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		kind, text, _ := strings.Cut(lines.Text(), " ")
		if kind == "story" {
			story = text
			continue
		}
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		all[story] = append(all[story], struct {
			kind string
			data []byte
		}{kind, data})
	}
	return all
}

// ruleset decodes a story.
func (r recorded) ruleset(t testing.TB) *Ruleset {
	l := listing{dormant: map[key]bool{}, chains: map[key]*chain{}, used: map[key]bool{}}
	var of *setHeader
	var raw []rawElement
	obscure := ""
	end := func() {
		if of != nil {
			l.whole = append(l.whole, of.set(raw, obscure))
		}
		of, raw, obscure = nil, nil, ""
	}
	for _, m := range r {
		var err error
		switch m.kind {
		case "table":
			err = l.table(m.data)
		case "chain":
			err = l.chain(m.data)
		case "rule":
			err = l.rule(m.data)
		case "set":
			end()
			of, err = decodeSet(m.data)
		case "elements":
			var some []rawElement
			var what string
			some, what, err = decodeElements(m.data)
			raw = append(raw, some...)
			if obscure == "" {
				obscure = what
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	end()
	rules := newRuleset(l.order, l.whole)
	rules.devices = map[uint32]string{1: "lo", 2: "eth0", 3: "eth1"}
	return rules
}

// TestRecorded decides about rules that a kernel sent, without any privilege.
func TestRecorded(t *testing.T) {
	if os.Getenv("FIREWALL_RECORD") != "" {
		record(t)
	}
	stories := readRecorded(t)
	var got []string
	for _, name := range []string{"ufw", "firewalld", "plain", "iptables"} {
		rules := stories[name].ruleset(t)
		for _, ask := range []struct {
			protocol  Protocol
			port      uint16
			from, dev string
		}{{TCP, 1001, "", ""}, {TCP, 1002, "", ""}, {TCP, 1002, "10.1.0.3", "eth0"}, {TCP, 1003, "10.1.0.130", "eth0"}, {UDP, 1001, "", "eth1"}, {UDP, 9, "", ""}} {
			a := Arrival{Protocol: ask.protocol, To: netip.MustParseAddr("10.1.0.1"), Port: ask.port, Interface: ask.dev}
			if ask.from != "" {
				a.From = netip.MustParseAddr(ask.from)
			}
			got = append(got, fmt.Sprintf("%s %d/%d %s %s: %v", name, ask.protocol, ask.port, ask.from, ask.dev, rules.Input(a)))
		}
	}
	published, _ := stories["docker"].ruleset(t).Published()
	for _, p := range published {
		got = append(got, words(p))
	}
	porttest.Golden(t, "testdata/decisions.txt", strings.Join(got, "\n")+"\n")
}

// record writes the file of recorded messages.
func record(t *testing.T) {
	t.Helper()
	var b strings.Builder
	for _, story := range []struct{ name, rules, iptables string }{
		{"ufw", ufw, ""}, {"firewalld", firewalld, ""}, {"plain", plainFirewall, ""}, {"iptables", "", legacyWords},
		{"docker", "", `
iptables-nft -t nat -N DOCKER
iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables-nft -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
iptables-nft -t nat -A PREROUTING -p tcp --dport 8081 -j REDIRECT --to-ports 1001
`},
	} {
		t.Run(story.name, func(t *testing.T) {
			porttest.Namespace(t)
			porttest.IPTables(t, story.iptables)
			porttest.NFT(t, story.rules)
			fmt.Fprintf(&b, "story %s\n", story.name)
			recordStory(t, &b)
		})
	}
	if err := os.WriteFile(recordedFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func recordStory(t *testing.T, b *strings.Builder) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	write := func(kind string) func([]byte) error {
		return func(message []byte) error {
			fmt.Fprintf(b, "%s %x\n", kind, message)
			return nil
		}
	}
	var sets []*setHeader
	for kind, name := range []string{unix.NFT_MSG_GETTABLE: "table", unix.NFT_MSG_GETCHAIN: "chain", unix.NFT_MSG_GETRULE: "rule"} {
		if name == "" {
			continue
		}
		if err := dump(conn, request(kind, netlink.Dump, nil), write(name)); err != nil {
			t.Fatal(err)
		}
	}
	headers := map[*setHeader][]byte{}
	err = dump(conn, request(unix.NFT_MSG_GETSET, netlink.Dump, nil), func(message []byte) error {
		h, err := decodeSet(message)
		sets, headers[h] = append(sets, h), message
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range sets {
		fmt.Fprintf(b, "set %x\n", headers[h])
		ask, err := elementsRequest(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := dump(conn, ask, write("elements")); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzMessages decodes what a kernel may send, and decides by it.
func FuzzMessages(f *testing.F) {
	for _, story := range readRecorded(f) {
		for _, m := range story {
			f.Add(m.kind, m.data)
		}
	}
	f.Fuzz(func(_ *testing.T, kind string, data []byte) {
		c := &chain{key: key{familyIPv4, "filter", "INPUT"}, hook: hookInput, kind: "filter"}
		nat := &chain{key: key{familyIPv4, "nat", "PREROUTING"}, hook: hookPrerouting, kind: "nat"}
		s := &set{key: key{familyIPv4, "filter", "s"}}
		switch kind {
		case "table":
			_, _, _ = dormantTable(data)
		case "chain":
			if read, err := decodeChain(data); err == nil {
				c = read
			}
		case "rule":
			if _, r, err := decodeRule(data); err == nil {
				c.rules, nat.rules = []rule{r}, []rule{r}
			}
		case "set":
			_, _ = decodeSet(data)
		default:
			raw, obscure, _ := decodeElements(data)
			for _, flags := range []uint32{0, unix.NFT_SET_INTERVAL, unix.NFT_SET_MAP} {
				h := &setHeader{key: s.key, flags: flags}
				s = h.set(raw, obscure)
				load := expr{kind: load, source: fromNetworkHeader, offset: 12, length: 8, dst: firstRegister}
				c.rules = append(c.rules, newRule(1, []expr{load, {kind: lookup, src: firstRegister, dst: verdictRegister, set: "s"}}))
			}
		}
		rules := newRuleset([]*chain{c, nat}, []*set{s})
		for _, protocol := range []Protocol{TCP, UDP} {
			_ = rules.Input(Arrival{Protocol: protocol, To: netip.IPv4Unspecified(), Port: 80}).String()
			_ = rules.Output(Departure{Protocol: protocol, To: netip.MustParseAddr("10.1.0.2"), Port: 80}).String()
		}
		rules.Published()
	})
}

// TestSpans are the sets of values that all is made of.
func TestSpans(t *testing.T) {
	s := func(pairs ...string) (all spans) {
		for _, p := range pairs {
			lo, hi, isRange := strings.Cut(p, "-")
			if !isRange {
				hi = lo
			}
			all = append(all, span{lo, hi})
		}
		return all
	}
	for _, test := range []struct {
		name      string
		got, want spans
	}{
		{"union of those that touch", union(s("d-f", "a-c", "x")), s("a-f", "x")},
		{"union of one in another", union(s("a-z", "c")), s("a-z")},
		{"and", s("a-f", "m-z").and(s("c-n", "z")), s("c-f", "m-n", "z")},
		{"and of nothing", s("a").and(nil), nil},
		{"minus", s("a-z").minus(s("c", "x-z")), s("a-b", "d-w")},
		{"minus all", s("a-z").minus(s("a-z")), nil},
		{"not of nothing", spans(nil).not(1), s("\x00-\xff")},
		{"not of all", s("\x00-\xff").not(1), nil},
	} {
		if diff := cmp.Diff(test.want, test.got, cmp.AllowUnexported(span{})); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
	compareSpans(t)
	if share := (spans{{"\x00\x00", "\x7f\xff"}}).share(); share != 0.5 {
		t.Errorf("half of all values is a share of %v", share)
	}
}

// compareSpans has one span do what several do.
func compareSpans(t *testing.T) {
	t.Helper()
	for range 2000 {
		var a spans
		for range rand.IntN(6) {
			lo := byte(rand.IntN(250))
			a = append(a, span{string([]byte{lo}), string([]byte{lo + byte(rand.IntN(6))})})
		}
		a = union(a)
		b := span{string([]byte{byte(rand.IntN(256))}), string([]byte{byte(rand.IntN(256))})}
		in, out := a.and(spans{b}), a.minus(spans{b})
		for i := range 256 {
			value := string([]byte{byte(i)})
			holds := func(s span) bool { return s.lo <= value && value <= s.hi }
			inA, inB := slices.ContainsFunc(a, holds), holds(b)
			if slices.ContainsFunc(in, holds) != (inA && inB) || slices.ContainsFunc(out, holds) != (inA && !inB) {
				t.Fatalf("%q with %q: %q and %q, wrong about %q", a, b, in, out, value)
			}
		}
		if !slices.Equal(union(in), in) || !slices.Equal(union(out), out) {
			t.Fatalf("%q with %q: %q and %q are not sorted", a, b, in, out)
		}
	}
}
