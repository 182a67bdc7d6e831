// Package yamldoc reads YAML strictly, with the line and the key of each fault, and
// inserts into a text. It knows no key of ours.
package yamldoc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxValues bounds the values of a file, those that its aliases repeat included:
// 50,000 targets of twenty keys each.
const maxValues = 1_000_000

// Read returns the one document of a text, nil for a text without any.
func Read(text []byte) (*yaml.Node, error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, explain(err, text)
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, explain(err, text)
	default:
		return nil, fmt.Errorf("line %d: a second YAML document begins\nhint: remove everything from the second --- on", second.Line)
	}
	return doc.Content[0], checkSize(doc.Content[0])
}

// checkText finds what is no text: the library does not say where.
func checkText(text []byte) error {
	if bytes.HasPrefix(text, []byte("\xfe\xff")) || bytes.HasPrefix(text, []byte("\xff\xfe")) {
		return nil // UTF-16, which YAML may be too
	}
	const hint = "hint: is this the right file? It must be text, in UTF-8"
	for at := 0; at < len(text); {
		r, width := utf8.DecodeRune(text[at:])
		switch {
		case r == utf8.RuneError && width == 1:
			return fmt.Errorf("line %d: the byte %#02x is not UTF-8\n%s", lineAt(text, at), text[at], hint)
		case isControl(r), r == '\ufeff' && at > 0:
			return fmt.Errorf("line %d: there is a control character, %U\n%s", lineAt(text, at), r, hint)
		}
		at += width
	}
	return nil
}

// isControl reports whether YAML has no such character (YAML 1.2.2, section 5.1).
func isControl(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || 0x7f <= r && r < 0xa0 && r != 0x85 || r == 0xfffe || r == 0xffff
}

func lineAt(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte("\n")) }

// checkSize bounds what is made of a node.
func checkSize(node *yaml.Node) error {
	budget := maxValues
	if at := exhaust(node, &budget); at != nil {
		return fmt.Errorf("line %d: with what aliases repeat, the file has more than %d values\nhint: an alias repeats all that its anchor has", at.Line, maxValues)
	}
	return nil
}

// exhaust returns the node with which the budget is used up, nil if it is not.
func exhaust(node *yaml.Node, budget *int) *yaml.Node {
	if *budget--; *budget < 0 {
		return node
	}
	if node.Kind == yaml.AliasNode {
		if exhaust(node.Alias, budget) != nil {
			return node
		}
		return nil
	}
	for _, child := range node.Content {
		if at := exhaust(child, budget); at != nil {
			return at
		}
	}
	return nil
}

// doubleColon finds the address :: without quotes.
var doubleColon = regexp.MustCompile(`(?m)[\s\[,]::[ \t\r]*($|[\],#])`)

// explain returns an error of the library with the line that is at fault, and what
// the library does not say.
func explain(err error, text []byte) error {
	words := strings.TrimPrefix(err.Error(), "yaml: ")
	words = namedLine.ReplaceAllString(words, "")
	line := faultyLine(err, text)
	hint := ""
	switch {
	case doubleColon.Match(text):
		hint = "\nhint: in YAML the address :: stands in quotes: \"::\""
	case strings.Contains(words, "cannot start any token"):
		hint = "\nhint: is there a tab? YAML indents with spaces; and a text that begins with @ or ` stands in quotes"
	case strings.Contains(words, "expected key"), strings.Contains(words, "'-' indicator"), strings.Contains(words, "mapping values"):
		hint = "\nhint: look at the indentation, here and in the line before; keys of one mapping begin in one column"
	case strings.Contains(words, "unknown anchor"):
		hint = "\nhint: a text that begins with * stands in quotes"
	}
	if line == 0 {
		return fmt.Errorf("%s%s", words, hint)
	}
	return fmt.Errorf("line %d: %s%s", line, words, hint)
}

// namedLine is the line that the library names.
var namedLine = regexp.MustCompile(`^line (\d+): `)

// largeText is above what is parsed again to find a line.
const largeText = 128 << 10

// faultyLine returns the line in which a text stops being YAML. The library names
// the one in which the block around it begins. Zero is not known.
func faultyLine(err error, text []byte) int {
	named := 0
	if m := namedLine.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: ")); m != nil {
		_, _ = fmt.Sscan(m[1], &named)
	}
	if len(text) > largeText || !utf8.Valid(text) {
		return named
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	good, bad := 0, len(lines) // the beginning of so many lines is YAML, or is not
	for bad-good > 1 {
		middle := lastGood(lines, (good+bad)/2, bad)
		if middle > good {
			good = middle
		} else {
			bad = (good + bad) / 2
		}
	}
	return bad
}

// lastGood returns at how many lines, from some on, the beginning of the text is
// YAML: in brackets that are still open it is not, and may be again a few lines
// later. Zero is none.
func lastGood(lines [][]byte, from, below int) int {
	const openBrackets = 8
	for n := from; n < min(below, from+openBrackets); n++ {
		if isYAML(bytes.Join(lines[:n], nil)) {
			return n
		}
	}
	return 0
}

func isYAML(text []byte) bool {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		if err := decoder.Decode(new(yaml.Node)); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}
