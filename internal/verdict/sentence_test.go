package verdict

import (
	"net"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestSentenceOfSilence does not let a target that no connection was made to
// accept connections, nor a unix-domain socket be behind a firewall.
func TestSentenceOfSilence(t *testing.T) {
	at := func(o probe.Outcome, p probe.Phase) probe.Result { return probe.Result{Outcome: o, Phase: p} }
	for _, tt := range []struct {
		address   string
		result    probe.Result
		want, not string
	}{
		{"192.0.2.1", at(probe.Timeout, probe.PhaseConnect), "firewall", "accepts connections"},
		{"192.0.2.1", at(probe.Timeout, probe.PhaseNone), "firewall", "accepts connections"},
		{"192.0.2.1:1", at(probe.Timeout, probe.PhaseExchange), "accepts connections", "filtered"},
		{"192.0.2.1:1", at(probe.Timeout, probe.PhaseTLS), "accepts connections", "filtered"},
		{"192.0.2.1:1", at(probe.Unreachable, probe.PhaseConnect), "or a firewall that says so", "path"},
		{"/run/a.sock", at(probe.Refused, probe.PhaseConnect), "nothing listens there", "host"},
		{"/run/a.sock", at(probe.Unreachable, probe.PhaseConnect), "no such path", "host"},
		{"/run/a.sock", at(probe.Prohibited, probe.PhaseConnect), "permissions", "firewall"},
		{"@a", at(probe.Protocol, probe.PhaseConnect), "another type", "rules of its protocol"},
		{"@a", at(probe.Timeout, probe.PhaseConnect), "accept queue is full", "filtered"},
		{"@a", at(probe.Timeout, probe.PhaseExchange), "accepts connections", "queue"},
		{"/run/a.sock", at(probe.Denied, probe.PhaseConnect), "not allowed", "reached"},
	} {
		got := of(tt.address, &tt.result)
		if !strings.Contains(got, tt.want) || strings.Contains(got, tt.not) {
			t.Errorf("%s %s in %q: %q, want %q and not %q", tt.address, tt.result.Outcome, tt.result.Phase, got, tt.want, tt.not)
		}
	}
}

func of(address string, r *probe.Result) string {
	return Judge(&Facts{Target: &probe.Target{Address: address}, Result: r}).Sentence
}

// TestEverySentence has words for each outcome and each one beyond the last, with
// no password in them.
func TestEverySentence(t *testing.T) {
	seen := map[string]bool{}
	for o := range probe.NumOutcomes + 1 {
		r := probe.Result{Outcome: o, Phase: probe.PhaseConnect}
		text := of("http://me:secret@a.example/", &r)
		if seen[text] && o != probe.NumOutcomes || strings.Contains(text, "secret") || strings.HasSuffix(text, ".") {
			t.Errorf("%s: %s", o, text)
		}
		seen[text] = true
	}
}

// TestHost has the host of a URL in a command, and that of a redirect.
func TestHost(t *testing.T) {
	r := probe.Result{Outcome: probe.Unreachable, Origin: probe.OriginLocal}
	for _, tt := range []struct{ address, redirect, want string }{
		{"a.example:443", "", "a.example"}, {"https://u:p@a.example/x", "", "a.example"}, {"wss://a.example:81", "", "a.example"},
		{"http://a.example/", "https://b.example:8443/", "b.example"}, {"a.example", "", "a.example"},
	} {
		r.Redirect = tt.redirect
		if got := Judge(&Facts{Target: &probe.Target{Address: tt.address}, Result: &r}).Next; got != "ip route get "+tt.want {
			t.Errorf("%s: %s, want %s", tt.address, got, tt.want)
		}
	}
}

// TestCommands has names and addresses that a shell would act upon in a command to copy.
func TestCommands(t *testing.T) {
	for _, tt := range []struct{ address, name, want string }{
		{"a.example:443", "a.example", "resolvectl query a.example, or dig a.example"},
		{"https://a.example/", "a;reboot$IFS-f", "resolvectl query 'a;reboot$IFS-f', or dig 'a;reboot$IFS-f'"},
		{"https://a.example/", "$(id)'", `resolvectl query '$(id)'\''', or dig '$(id)'\'''`},
		{"https://a.example/?a=1&b=NAME", "", "port_exporter check --trace 'https://a.example/?a=1&b=NAME'"},
		{"[::1]:443", "", "port_exporter check --trace [::1]:443"},
	} {
		r := probe.Result{Outcome: probe.Timeout, Phase: probe.PhaseConnect}
		if tt.name != "" {
			r = probe.Result{Outcome: probe.DNSError, Phase: probe.PhaseResolve, Err: &net.DNSError{Name: tt.name}}
		}
		if got := Judge(&Facts{Target: &probe.Target{Address: tt.address}, Result: &r}).Next; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.address, got, tt.want)
		}
	}
}
