// Package plain makes text of strangers harmless: names of processes, banners,
// certificates and answers are shown, and do nothing. What a terminal, a page or a
// spreadsheet would act upon is written out, as in \x1b and \u202e.
package plain

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// blank is the pattern of Braille without a dot.
const blank = '\u2800'

// acts reports whether a character does something besides being seen, or cannot be
// seen: control characters of C0 and C1, DEL, line and paragraph separators, format
// characters, which turn the direction of text, variation selectors, fillers and what
// else is shown as nothing (Default_Ignorable_Code_Point of UAX #44).
func acts(r rune) bool {
	return r == blank || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// Line returns text that fits a line, and a label: what acts, line breaks included, is
// escaped, and bytes that are not UTF-8 are \xff, so that texts that differ in them
// stay different.
func Line(s string) string { return escape(s, acts) }

// Text is [Line] for text of several lines: it keeps line feeds and tabs. What is put
// into it must be a Line, or a stranger could write lines.
func Text(s string) string {
	return escape(s, func(r rune) bool { return r != '\n' && r != '\t' && acts(r) })
}

// Valid returns text in which bytes that are not UTF-8 are written as \xff.
func Valid(s string) string { return escape(s, func(rune) bool { return false }) }

func escape(s string, acts func(rune) bool) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !acts(r):
			b.WriteString(s[:size])
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[size:]
	}
	return b.String()
}

// isPlain reports whether a text is all of printable ASCII, as nearly all are.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Name returns a name for people, who are to see where it begins and ends. It is
// quoted if it has what cannot be seen, a space at either end, or looks like a name
// that is quoted or missing.
func Name(s string) string {
	odd := strings.TrimSpace(s) != s || s == "-" || strings.HasPrefix(s, `"`)
	for _, r := range s {
		odd = odd || !unicode.IsPrint(r) || acts(r) || r == utf8.RuneError
	}
	if odd {
		return Line(strconv.Quote(s))
	}
	return s
}

// formulaBehind finds what begins a formula where a semicolon separates cells, as it
// does in many countries.
var formulaBehind = regexp.MustCompile(`;(\s*[=+\-@＝＋－＠])`)

// Cell returns a [Line] for a table that a spreadsheet may read: a ' keeps what looks
// like a formula from being one.
func Cell(s string) string {
	line := formulaBehind.ReplaceAllString(Line(s), `\x3b$1`)
	if line != "" && strings.ContainsAny(line[:1], "=+-@") || hasWide(line) {
		return "'" + line
	}
	return line
}

// hasWide reports whether a text begins with the wide form of what begins a formula,
// which some spreadsheets take for it.
func hasWide(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return strings.ContainsRune("＝＋－＠", r)
}

// JSON returns text of JSON in which what acts is escaped, as it may be in strings. It
// keeps line feeds, which stand between values only.
func JSON(text []byte) []byte {
	b := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r == '\n' || !acts(r):
			b = utf8.AppendRune(b, r)
		case r <= 0xffff:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return b
}
