package plain

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestForms(t *testing.T) {
	for _, tt := range []struct{ in, line, text, name, cell string }{
		{"\x1b[2J", `\x1b[2J`, `\x1b[2J`, `"\x1b[2J"`, `\x1b[2J`},
		{"a\nb\tc\r", `a\x0ab\x09c\x0d`, "a\nb\tc" + `\x0d`, `"a\nb\tc\r"`, `a\x0ab\x09c\x0d`},
		{"\u009b31m", `\u009b31m`, `\u009b31m`, `"\u009b31m"`, `\u009b31m`},
		{"\x7f", `\x7f`, `\x7f`, `"\x7f"`, `\x7f`},
		{"a\xffb\xfe", `a\xffb\xfe`, `a\xffb\xfe`, `"a\xffb\xfe"`, `a\xffb\xfe`},
		{"gp\u202etxt\u2066\u200b\ufeff", `gp\u202etxt\u2066\u200b\ufeff`, `gp\u202etxt\u2066\u200b\ufeff`, `"gp\u202etxt\u2066\u200b\ufeff"`, `gp\u202etxt\u2066\u200b\ufeff`},
		{"\u2028\u2029", `\u2028\u2029`, `\u2028\u2029`, `"\u2028\u2029"`, `\u2028\u2029`},
		{"\U000e0041", `\U000e0041`, `\U000e0041`, `"\U000e0041"`, `\U000e0041`},
		{"sshd\ufe0f", `sshd\ufe0f`, `sshd\ufe0f`, `"sshd\ufe0f"`, `sshd\ufe0f`},
		{"\u3164", `\u3164`, `\u3164`, `"\u3164"`, `\u3164`},
		{"\u2800", `\u2800`, `\u2800`, `"\u2800"`, `\u2800`},
		{"ssh\u034fd", `ssh\u034fd`, `ssh\u034fd`, `"ssh\u034fd"`, `ssh\u034fd`},
		{"a; =1+1", "a; =1+1", "a; =1+1", "a; =1+1", `a\x3b =1+1`},
		{" ", " ", " ", `" "`, " "},
		{"nginx ", "nginx ", "nginx ", `"nginx "`, "nginx "},
		{"\u00a0", "\u00a0", "\u00a0", `"\u00a0"`, "\u00a0"},
		{`"nginx"`, `"nginx"`, `"nginx"`, `"\"nginx\""`, `"nginx"`},
		{"-", "-", "-", `"-"`, "'-"},
		{"=cmd|'/C calc'", "=cmd|'/C calc'", "=cmd|'/C calc'", "=cmd|'/C calc'", "'=cmd|'/C calc'"},
		{"@SUM(1)", "@SUM(1)", "@SUM(1)", "@SUM(1)", "'@SUM(1)"},
		{"+1", "+1", "+1", "+1", "'+1"},
		{"＝1", "＝1", "＝1", "＝1", "'＝1"},
		{"", "", "", "", ""},
		{"nginx", "nginx", "nginx", "nginx", "nginx"},
		{"größe 日本 🙂", "größe 日本 🙂", "größe 日本 🙂", "größe 日本 🙂", "größe 日本 🙂"},
	} {
		for form, got := range map[string][2]string{"line": {Line(tt.in), tt.line}, "text": {Text(tt.in), tt.text}, "name": {Name(tt.in), tt.name}, "cell": {Cell(tt.in), tt.cell}} {
			if got[0] != got[1] {
				t.Errorf("%s of %q: %s, want %s", form, tt.in, got[0], got[1])
			}
		}
	}
	if got := Valid("\x1ba\xff"); got != "\x1b"+`a\xff` {
		t.Errorf("%q", got)
	}
}

func TestLineTakesNoMemory(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Line("nginx: worker process"); Text("a") }); n > 0 {
		t.Errorf("%v allocations for text that needs nothing", n)
	}
}

func FuzzForms(f *testing.F) {
	for _, s := range []string{"\x1b", "\u202e", "\xff", " ", "=1", "\U000e0041", "\u2028", "a\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for form, got := range map[string]string{"line": Line(s), "text": Text(s), "name": Name(s), "cell": Cell(s)} {
			for _, r := range got {
				if acts(r) && (form != "text" || r != '\n' && r != '\t') {
					t.Errorf("the %s of %q has %U", form, s, r)
				}
			}
			if !utf8.ValidString(got) {
				t.Errorf("the %s of %q is %q", form, s, got)
			}
		}
		if c := Cell(s); c != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(c)[0]) {
			t.Errorf("%q is a formula", c)
		}
		if n := Name(s); n != "" && strings.TrimFunc(n, unicode.IsSpace) == "" {
			t.Errorf("%q cannot be seen", s)
		}
		text, err := json.Marshal(Valid(s))
		if err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal(JSON(text), &back); err != nil || back != Valid(s) {
			t.Errorf("JSON of %q: %s, %v", s, JSON(text), err)
		}
	})
}
