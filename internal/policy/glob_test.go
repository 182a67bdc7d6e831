package policy

import (
	"regexp"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		dialect       dialect
		want          bool
	}{
		{"sshd", "ssh", name, false},
		{"ssh", "sshd", name, false},
		{"", "a", name, false},
		{"?", "", name, false},
		{"?*", "", name, false},
		{"a*b", "a", name, false},
		{"*a*b", "bab-a", name, false},
		{"[a-z]", "b", name, false},
		{`\*`, "a", name, false},
		{"\ufffd", "\xff", name, false},
		{"\xfe", "\xff", name, false},
		{"/usr/*", "/usr/sbin/sshd", path, false},
		{"/usr/?", "/usr//", path, false},
		{"*", "/", path, false},
		{"/usr/*/sshd", "/usr/local/sbin/sshd", path, false},
		{"**/a*/b", "/x/ac/c/b", path, false},
		{"/usr/**/sshd", "/usr/sshd", path, false},

		{"", "", name, true},
		{"*", "", name, true},
		{"sshd", "sshd", name, true},
		{"docker-*", "docker-", name, true},
		{"docker-*", "docker-0123", name, true},
		{"pod*/containerd-*", "podab/cd/containerd-12", name, true},
		{"*a*b", "xabab", name, true},
		{"a**b", "a/b", name, true},
		{"??", "éx", name, true},
		{"a?c", "a\xffc", name, true},
		{`\*\?\\`, `*?\`, name, true},
		{`a\`, `a\`, name, true},
		{"[a]", "[a]", name, true},
		{"/usr/*", "/usr/", path, true},
		{"/usr/*/sshd", "/usr/sbin/sshd", path, true},
		{"/usr/**", "/usr/local/sbin/sshd", path, true},
		{"/usr/***", "/usr/local/sbin/sshd", path, true},
		{"**/a*/b", "/x/ab/c/ad/b", path, true},
		{"**b*/c", "ab/bab/c", path, true},
		{"/*a*/b", "/xaya/b", path, true},
	} {
		if got := matches([]string{"no", tt.pattern}, tt.dialect, tt.text); got != tt.want {
			t.Errorf("pattern %q, text %q: got %t", tt.pattern, tt.text, got)
		}
	}
}

func TestCovered(t *testing.T) {
	for _, tt := range []struct {
		wide, narrow string
		dialect      dialect
		want         bool
	}{
		{"sshd", "*", name, false},
		{"ssh*", "s*", name, false},
		{"?", "*", name, false},
		{"a?", "a*", name, false},
		{"?*", "*", name, false},
		{"*a", "*", name, false},
		{`\*`, "*", name, false},
		{"/usr/*", "/usr/**", path, false},
		{"/usr/*", "/usr/a*/b", path, false},
		{"?", "/", path, false},
		{"?*", "*?", name, false}, // they are the same: too hard to find out

		{"*", "", name, true},
		{"*", "*", name, true},
		{"*", "a?b*", name, true},
		{"ssh*", "sshd*", name, true},
		{"ssh*", "sshd", name, true},
		{"*", `\*`, name, true},
		{"?", `\*`, name, true},
		{"*-*", "docker-*", name, true},
		{"**", "*", name, true},
		{"/usr/**", "/usr/*/sshd", path, true},
		{"/usr/*/*", "/usr/s?in/sshd", path, true},
		{"**/sshd", "/usr/**/sshd", path, true},
	} {
		if got := covered([]string{tt.narrow}, []string{"no", tt.wide}, tt.dialect); got != tt.want {
			t.Errorf("wide %q, narrow %q: got %t", tt.wide, tt.narrow, got)
		}
	}
}

func TestManyStarsAreNoTrap(t *testing.T) {
	pattern := strings.Repeat("*a", 200) + "b"
	text := strings.Repeat("a", 4096)
	for _, d := range []dialect{name, path} {
		if matches([]string{pattern, strings.ReplaceAll(pattern, "*", "**")}, d, text) {
			t.Error("it matched")
		}
	}
}

// oracle writes a pattern as a regular expression on the tokens of a text.
func oracle(pattern string, d dialect) *regexp.Regexp {
	inDir := "."
	if d == path {
		inDir = "[^/]"
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch {
		case strings.HasPrefix(pattern[i:], "**"):
			for i+1 < len(pattern) && pattern[i+1] == '*' {
				i++
			}
			b.WriteString(".*")
		case pattern[i] == '*':
			b.WriteString(inDir + "*")
		case pattern[i] == '?':
			b.WriteString(inDir)
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			fallthrough
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	return regexp.MustCompile(`(?s)\A` + b.String() + `\z`)
}

// words returns every word of up to n of the letters.
func words(letters string, n int) []string {
	all, last := []string{""}, []string{""}
	for range n {
		var longer []string
		for _, word := range last {
			for i := range letters {
				longer = append(longer, word+letters[i:i+1])
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

// TestEveryShortPattern compares with regular expressions, and compares covered with
// be sound, on all short patterns.
func TestEveryShortPattern(t *testing.T) {
	patterns, texts := words(`a/*?`, 4), words("a/", 6)
	for _, d := range []dialect{name, path} {
		language := make([][]bool, len(patterns))
		for i, p := range patterns {
			want := oracle(p, d)
			for _, text := range texts {
				got := matches([]string{p}, d, text)
				language[i] = append(language[i], got)
				if got != want.MatchString(text) {
					t.Fatalf("pattern %q, text %q: got %t", p, text, got)
				}
			}
		}
		missed := 0
		for i, wide := range patterns {
			for j, narrow := range patterns {
				is := subset(language[j], language[i])
				switch got := covered([]string{narrow}, []string{wide}, d); {
				case got && !is:
					t.Fatalf("%q does not cover %q", wide, narrow)
				case !got && is:
					missed++
				}
			}
		}
		if all := len(patterns) * len(patterns); missed > all/10 {
			t.Errorf("%d pairs of %d missed", missed, all)
		}
	}
}

func subset(a, b []bool) bool {
	for i := range a {
		if a[i] && !b[i] {
			return false
		}
	}
	return true
}

func FuzzGlob(f *testing.F) {
	f.Add("/usr/*", "/usr/**", "/usr/sbin")
	f.Add(`a\`, "*?", "\xff")
	f.Fuzz(func(t *testing.T, a, b, text string) {
		if len(a)+len(b)+len(text) > 300 {
			t.Skip("the matcher takes the square of the length")
		}
		for _, d := range []dialect{name, path} {
			if covered([]string{b}, []string{a}, d) && matches([]string{b}, d, text) && !matches([]string{a}, d, text) {
				t.Errorf("%q covers %q, but does not match %q", a, b, text)
			}
			if quoted := literal(text); !matches([]string{quoted}, d, text) {
				t.Errorf("%q does not match what it was made of, %q", quoted, text)
			}
			if !covered([]string{a}, []string{a}, d) {
				t.Errorf("%q does not cover itself", a)
			}
		}
	})
}
