package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestFaultsOfTextNameTheirLine has what is no YAML, or not what is meant, and
// asks for the line that is at fault and for words without types of Go.
func TestFaultsOfTextNameTheirLine(t *testing.T) {
	const policy = "policy:\n  rules:\n"
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"indentation", "limits:\n  listeners: 10\n   destinations: 10\n", []string{"line 3: ", "hint: look at the indentation"}},
		{"indentation, back too far", "limits:\n    listeners: 10\n  destinations: 10\n", []string{"line 3: ", "hint: look at the indentation"}},
		{"indentation in a rule", policy + "    - name: a\n      ports: 1\n     protocol: tcp\n    - name: b\n", []string{"line 5: ", "hint: look at the indentation"}},
		{"a tab", "limits:\n\tlisteners: 10\n", []string{"line 2: ", "hint: is there a tab?"}},
		{"a bracket", "targets: [\n  {address: 'a:1'},\n  {address: 'b:1'}\nlimits: {}\n", []string{"line 1: "}},
		{"a quote", "limits: {}\ntargets:\n  - address: \"a:1\n  - address: 'b:1'\n", []string{"line 3: "}},
		{"an anchor", "limits: {}\npolicy: *x\n", []string{"line 2: ", "unknown anchor", "hint: a text that begins with *"}},
		{"an address", policy + "    - address: ::\n", []string{"line 3: ", `stands in quotes: "::"`}},
		{"a second document", "limits: {}\n---\nlimits: {}\n", []string{"line 2: a second YAML document"}},
		{"a second document that is no YAML", "limits: {}\n---\nlimits: {\n", []string{"line 3: "}},
		{"an executable", "\x7fELF\x02\x01\x01\x00\x00\n", []string{"line 1: there is a control character, U+007F", "is this the right file?"}},
		{"compressed", "limits: {}\n\x1f\x8b\x08\x00", []string{"line 2: there is a control character, U+001F"}},
		{"Latin-1", "limits: {}\n# caf\xe9\n", []string{"line 2: the byte 0xe9 is not UTF-8"}},
		{"NUL", "limits: {}\n\n\x00", []string{"line 3: there is a control character, U+0000"}},
		{"C1", "limits: {}\n# \u009b31m\n", []string{"line 2: there is a control character, U+009B"}},
		{"a byte order mark inside", "limits: {}\n\ufeff\n", []string{"line 2: there is a control character, U+FEFF"}},
		{"nesting", "limits: {}\ntargets:\n" + strings.Repeat("[", 11_000) + "\n", []string{"line 3: "}},
		{"a large key", "limits: {}\n" + strings.Repeat("x", 1<<20) + ": 1\n", []string{"line 2: "}},
		{"a large key, below", "limits:\n  " + strings.Repeat("x", 1000) + ": 1\n", []string{"line 2: limits.xxxxxxxxxx", "…: unknown key"}},
		{"a list for keys", "limits: []\n", []string{"line 1: limits: a list where keys are expected"}},
		{"a list for a module's keys", "modules:\n  m:\n    prober: tcp\n    tcp: [a]\n", []string{"line 4: modules.m.tcp: a list where keys are expected"}},
		{"a list for modules", "modules:\n  m: [a]\n", []string{"line 2: modules.m: a list where keys are expected"}},
		{"a text for a list", "modules:\n  m:\n    prober: http\n    http:\n      valid_status_codes: {a: 1}\n", []string{"line 5: modules.m.http.valid_status_codes: a mapping where a list is expected"}},
		{"a text for a number", "modules:\n  m:\n    prober: http\n    http:\n      valid_status_codes: [x]\n", []string{"line 5: ", "a single value where a whole number is expected"}},
		{"octal", "limits:\n  listeners: 0777\n", []string{`line 2: limits.listeners: "0777" begins with 0`, "hint: write 777"}},
		{"an octal port", policy + "    - ports: 0777\n", []string{`line 3: policy.rules[0].ports: "0777" begins with 0`, "hint: write 777"}},
		{"an octal status", "modules:\n  m: {prober: http, http: {valid_status_codes: [0200]}}\n", []string{`line 2: modules.m.http.valid_status_codes[0]: "0200" begins with 0`}},
		{"a missing file", "limits: {}\nblackbox_config: /nonexistent\n", []string{"line 2: blackbox_config: ", "no such file"}},
		{"aliases", "limits: &a {}\nx:\n" + aliasBomb(), []string{"with what aliases repeat"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			_, err := Parse([]byte(tt.text))
			if err == nil {
				t.Fatal("no error")
			}
			wantAll(t, "error", err.Error(), tt.want)
			if m := regexp.MustCompile(`\b\w+\.(plain|Module|HTTPProbe|TCPProbe)\b|!!\w+|\[\]int`).FindString(err.Error()); m != "" {
				t.Errorf("%q is no word of users': %v", m, err)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("%d bytes of message", len(err.Error()))
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// aliasBomb is nine lines that stand for ten to the ninth values.
func aliasBomb() string {
	text := "  - &b0 [1,2,3,4,5,6,7,8,9,0]\n"
	for i := 1; i < 9; i++ {
		text += fmt.Sprintf("  - &b%d [%s]\n", i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*b%d,", i-1), 10), ","))
	}
	return text
}

// TestFilesThatSayNothing are valid, with a warning.
func TestFilesThatSayNothing(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# all of it\n# is a comment\n", "\ufeff", "---\n", "\ufeff# a\n"} {
		c, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "the file says nothing") {
			t.Errorf("%q: warnings %q", text, c.Warnings)
		}
	}
	if c, err := Parse([]byte("{}\n")); err != nil || c.Warnings != nil {
		t.Errorf("{}: %v, %+v", err, c)
	}
}

// TestLost has what is left of a configuration when its file is cut.
func TestLost(t *testing.T) {
	const whole = "policy:\n  rules:\n    - ports: 1\n    - ports: 2\ndestinations: {watch: [{address: 192.0.2.1}]}\nmodules: {m: {prober: tcp}}\ntargets:\n  - {address: 'a:1'}\n  - {address: 'b:1'}\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "policy.rules: nothing is left of the 2 before"},
		{"a comment", "# x\n", "targets: nothing is left of the 2 before"},
		{"cut before the targets", whole[:strings.Index(whole, "targets:")], "targets: nothing is left of the 2 before"},
		{"cut behind a key", whole[:strings.Index(whole, "targets:")] + "targets:\n", "write targets: []"},
		{"cut behind rules", "policy:\n  rules:\n", "write policy: {rules: []}"},
		{"cut in a line", strings.TrimSuffix(whole, "  - {address: 'b:1'}\n") + "  ", "file does not end with a line break"},
		{"cut before its last line break", strings.TrimSuffix(whole, "\n"), "file does not end with a line break"},
		{"the same", whole, ""},
		{"shorter, and whole", strings.TrimSuffix(whole, "  - {address: 'b:1'}\n"), ""},
		{"none meant", "policy: {rules: []}\ndestinations: {watch: []}\nmodules: {}\ntargets: []\n", ""},
	} {
		before, err := Parse([]byte(whole))
		if err != nil {
			t.Fatal(err)
		}
		now, err := Parse([]byte(tt.text))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		err = now.Lost(before)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestShrunk has what may be meant, and what may be half a file that ends at a line
// break.
func TestShrunk(t *testing.T) {
	parse := func(text string) *Config {
		t.Helper()
		c, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const whole = "policy:\n  rules:\n    - ports: 1\n    - ports: 2\ndestinations: {watch: [{address: 192.0.2.1}]}\nmodules: {m: {prober: tcp}}\ntargets:\n  - {address: 'a:1'}\n  - {address: 'b:1'}\n"
	for _, tt := range []struct {
		name, text string
		want       []Shrinkage
	}{
		{"the same", whole, nil},
		{"more", whole + "  - {address: 'c:1'}\n", nil},
		{"others", strings.NewReplacer("a:1", "c:1", "ports: 1", "ports: 3").Replace(whole), nil},
		{"a target", strings.TrimSuffix(whole, "  - {address: 'b:1'}\n"), []Shrinkage{{"targets", 2, 1}}},
		{"a rule", strings.Replace(whole, "    - ports: 2\n", "", 1), []Shrinkage{{"policy.rules", 2, 1}}},
		{"all that is written", "policy: {rules: []}\ndestinations: {watch: []}\nmodules: {}\ntargets: []\n", []Shrinkage{
			{"targets", 2, 0}, {"policy.rules", 2, 0}, {"destinations.watch", 1, 0}, {"modules", 1, 0},
		}},
	} {
		if diff := cmp.Diff(tt.want, parse(tt.text).Shrunk(parse(whole))); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
}

// TestLostOfIncluded has a file of blackbox_exporter that is cut in its last line.
func TestLostOfIncluded(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) *Config {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "b.yml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ParseIn(dir, []byte("blackbox_config: b.yml\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const whole = "modules:\n  m:\n    prober: http\n    http:\n      no_follow_redirects: true\n      fail_if_not_ssl: true\n"
	before := load(whole)
	cut := load(strings.TrimSuffix(whole, "\n      fail_if_not_ssl: true\n"))
	if err := cut.Lost(before); err == nil || !strings.Contains(err.Error(), "blackbox_config: b.yml: the file does not end with a line break") {
		t.Errorf("cut: %v", err)
	}
	if err := cut.Lost(cut); err != nil {
		t.Errorf("never with a line break: %v", err)
	}
	less := load(strings.TrimSuffix(whole, "      fail_if_not_ssl: true\n"))
	if err := less.Lost(before); err != nil {
		t.Errorf("whole: %v", err)
	}
	missing, err := less.Missing(before)
	if diff := cmp.Diff([]string{"modules.m.http.fail_if_not_ssl"}, missing); diff != "" || err != nil {
		t.Errorf("%v: -want +got:\n%s", err, diff)
	}
}

// TestMissing has files that lack a key that something had which is still there.
func TestMissing(t *testing.T) {
	parse := func(text string) *Config {
		t.Helper()
		c, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const whole = `probes:
  allow:
    rules:
      - modules: [m]
        networks: [192.0.2.0/24]
      - networks: 198.51.100.0/24
        ports: [1, 2]
modules:
  m:
    prober: tcp
    tcp:
      query_response:
        - expect: a
        - expect: b
policy:
  rules:
    - ports: 1
    - name: ssh
      ports: 22
      process: sshd
      address: 192.0.2.1
    - ports: 80
      process: nginx
targets:
  - address: 'a:1'
  - address: 'b:1'
    module: m
`
	without := func(parts ...string) string {
		text := whole
		for _, part := range parts {
			if strings.Count(text, part) != 1 {
				t.Fatalf("%q", part)
			}
			text = strings.Replace(text, part, "", 1)
		}
		return text
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"the same", whole, nil},
		{"other values", strings.NewReplacer("sshd", "dropbear", "192.0.2.1\n", "192.0.2.2\n", "expect: b", "expect: c").Replace(whole), nil},
		{"the networks of a rule", without("        networks: [192.0.2.0/24]\n"), []string{"probes.allow.rules[0].networks"}},
		{"a key of a named rule", without("      process: sshd\n"), []string{"policy.rules[1].process"}},
		{"the end of an unnamed rule", without("      process: nginx\n"), []string{"policy.rules[2].process"}},
		{"a rule before, and a key", without("    - ports: 1\n", "      address: 192.0.2.1\n"), []string{"policy.rules[0].address"}},
		{"a step", without("        - expect: b\n"), []string{"modules.m.tcp.query_response (1 of 2 elements)"}},
		{"a port", strings.Replace(whole, "[1, 2]", "[1]", 1), []string{"probes.allow.rules[1].ports (1 of 2 elements)"}},
		{"the module of a target", without("    module: m\n"), []string{"targets[1].module"}},
		{"a rule, which is counted", without("    - ports: 1\n"), nil},
		{"a target, which is counted", without("  - address: 'a:1'\n"), nil},
		{"a module without its keys", without("      query_response:\n        - expect: a\n        - expect: b\n"), []string{"modules.m.tcp"}},
	} {
		missing, err := parse(tt.text).Missing(parse(whole))
		if diff := cmp.Diff(tt.want, missing, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got:\n%s", tt.name, err, diff)
		}
	}
}
