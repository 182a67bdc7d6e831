package probe

import (
	"strings"
	"testing"
)

// TestSentenceOfSilence does not let a target that no connection was made to
// accept connections, nor a unix-domain socket be behind a firewall.
func TestSentenceOfSilence(t *testing.T) {
	at := func(o Outcome, p Phase) Result { return Result{Outcome: o, Phase: p} }
	for _, tt := range []struct {
		address   string
		result    Result
		want, not string
	}{
		{"192.0.2.1", at(Timeout, PhaseConnect), "filtered", "accepts connections"},
		{"192.0.2.1", at(Timeout, PhaseNone), "filtered", "accepts connections"},
		{"192.0.2.1:1", at(Timeout, PhaseExchange), "accepts connections", "filtered"},
		{"192.0.2.1:1", at(Timeout, PhaseTLS), "accepts connections", "filtered"},
		{"192.0.2.1:1", at(Unreachable, PhaseConnect), "or a firewall that says so", "path"},
		{"/run/a.sock", at(Refused, PhaseConnect), "nothing listens there", "host"},
		{"/run/a.sock", at(Unreachable, PhaseConnect), "no such path", "host"},
		{"/run/a.sock", at(Prohibited, PhaseConnect), "permissions", "firewall"},
		{"@a", at(Protocol, PhaseConnect), "another type", "rules of its protocol"},
		{"@a", at(Timeout, PhaseConnect), "accept queue is full", "filtered"},
		{"@a", at(Timeout, PhaseExchange), "accepts connections", "queue"},
		{"/run/a.sock", at(Denied, PhaseConnect), "not allowed", "reached"},
	} {
		got := tt.result.Sentence(tt.address)
		if !strings.Contains(got, tt.want) || strings.Contains(got, tt.not) {
			t.Errorf("%s %s in %q: %q, want %q and not %q", tt.address, tt.result.Outcome, tt.result.Phase, got, tt.want, tt.not)
		}
	}
}

// TestEverySentence makes sure that each outcome has words of its own, that no
// password is in them, and that an outcome beyond the last has some too.
func TestEverySentence(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Outcomes() {
		r := Result{Outcome: o, Phase: PhaseConnect}
		text := r.Sentence("http://me:secret@a.example/")
		if seen[text] || strings.Contains(text, "secret") || strings.HasSuffix(text, ".") {
			t.Errorf("%s: %s", o, text)
		}
		seen[text] = true
	}
	for origin := range numOrigins {
		r := Result{Outcome: Refused, Origin: origin}
		text := r.Sentence("a:1")
		if seen[text] && origin != OriginTarget {
			t.Errorf("%s: %s", origin, text)
		}
		seen[text] = true
	}
}
