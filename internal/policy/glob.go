package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A pattern is a glob: * matches any characters, ? one, and a backslash
// takes the meaning from the character after it. In a path, * and ? stop at a
// slash and ** does not. There are no classes: [ is a character like others.
//
// One matcher serves both questions. A text matches a pattern when the pattern
// takes all its characters; a pattern covers another when it takes the other's
// characters and wildcards, each as a unit. The second is sound, that is all a
// lint needs: what is covered can match nothing else.

// dialect says how a string is read.
type dialect uint8

const (
	plain dialect = iota // a text: every character matches itself
	name                 // a pattern where * takes every character
	path                 // a pattern where * stops at a slash
)

// token is a character, or one of the wildcards below. A byte that is not UTF-8
// is a character of its own, above all others.
type token rune

const (
	end      token = -1 - iota
	one            // any character
	oneInDir       // any character but a slash
	inDir          // any characters but slashes
	across         // any characters

	notUTF8 token = utf8.MaxRune + 1
)

// tokens is a string to be read in a dialect.
type tokens struct {
	text    string
	dialect dialect
}

// at returns the token at a position, and the position after it.
func (s tokens) at(i int) (t token, next int) {
	if i >= len(s.text) {
		return end, i
	}
	if s.dialect != plain {
		switch c := s.text[i]; {
		case c == '*':
			return s.stars(i)
		case c == '?' && s.dialect == name:
			return one, i + 1
		case c == '?':
			return oneInDir, i + 1
		case c == '\\' && i+1 < len(s.text):
			i++
		}
	}
	r, width := utf8.DecodeRuneInString(s.text[i:])
	if r == utf8.RuneError && width == 1 {
		return notUTF8 + token(s.text[i]), i + 1
	}
	return token(r), i + width
}

func (s tokens) stars(i int) (t token, next int) {
	next = i
	for next < len(s.text) && s.text[next] == '*' {
		next++
	}
	if s.dialect == path && next-i == 1 {
		return inDir, next
	}
	return across, next
}

// takes reports whether t matches all that other matches. A star takes
// another token as one of the many that it may take.
func (t token) takes(other token) bool {
	switch t {
	case across:
		return true
	case inDir:
		return other == inDir || oneInDir.takes(other)
	case one:
		return other >= 0 || other == one || other == oneInDir
	case oneInDir:
		return other >= 0 && other != '/' || other == oneInDir
	default:
		return t == other
	}
}

// retry is where to go on when what follows a star does not fit: the star takes
// one token more.
type retry struct {
	pattern, text int
	set           bool
}

// covers reports whether the pattern s takes the whole of text. It tries each
// star from the shortest on; to go back to the last star of its kind is enough,
// as all before it is matched as early as can be.
func (s tokens) covers(text tokens) bool {
	var near, far retry
	i, j := 0, 0
	for {
		p, afterP := s.at(i)
		t, afterT := text.at(j)
		switch {
		case p == across:
			near, far = retry{}, retry{afterP, j, true}
			i = afterP
		case p == inDir:
			near = retry{afterP, j, true}
			i = afterP
		case t == end && p == end:
			return true
		case t != end && p.takes(t):
			i, j = afterP, afterT
		case near.extend(inDir, text):
			i, j = near.pattern, near.text
		case far.extend(across, text):
			near = retry{}
			i, j = far.pattern, far.text
		default:
			return false
		}
	}
}

// extend lets the star take one token more, if it can.
func (r *retry) extend(star token, text tokens) bool {
	if !r.set {
		return false
	}
	t, after := text.at(r.text)
	if t == end || !star.takes(t) {
		return false
	}
	r.text = after
	return true
}

// matches reports whether the text matches one of the patterns.
func matches(patterns []string, d dialect, text string) bool {
	for _, p := range patterns {
		if (tokens{p, d}).covers(tokens{text, plain}) {
			return true
		}
	}
	return false
}

// covered reports whether each of the narrow patterns is covered by one of the
// wide ones.
func covered(narrow, wide []string, d dialect) bool {
	for _, n := range narrow {
		if !coveredByOne(n, wide, d) {
			return false
		}
	}
	return true
}

func coveredByOne(narrow string, wide []string, d dialect) bool {
	for _, w := range wide {
		if (tokens{w, d}).covers(tokens{narrow, d}) {
			return true
		}
	}
	return false
}

// literal returns the pattern that matches the text. Characters that cannot be
// printed become ?, so that nothing in a policy hides from who reviews it.
func literal(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		r, width := utf8.DecodeRuneInString(text[i:])
		i += width
		switch {
		case r == utf8.RuneError, !unicode.IsPrint(r):
			b.WriteByte('?')
		case strings.ContainsRune(`*?\`, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
