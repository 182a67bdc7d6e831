package yamldoc

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Gap is where new elements of a list go in a text: in the place of text[from:to].
type Gap struct {
	from, to int
	blank    bool   // an empty line goes before
	head     string // lines that go before the list
	// Indent is what stands before the dashes of the list.
	Indent string
}

// Fill returns the text with a list in the gap, in lines that end as those of the
// text do.
func (g Gap) Fill(text []byte, list string) []byte {
	fresh := g.head + list
	if g.blank {
		fresh = "\n" + fresh
	}
	if g.from > 0 && text[g.from-1] != '\n' {
		fresh = "\n" + fresh
	}
	if line, _, _ := bytes.Cut(text, []byte("\n")); bytes.HasSuffix(line, []byte("\r")) {
		fresh = strings.ReplaceAll(fresh, "\n", "\r\n")
	}
	return slices.Concat(text[:g.from], []byte(fresh), text[g.to:])
}

// FindGap finds where new elements of the list below a key of a section go, in the
// text of one valid document. It only knows lists that are written in lines, or are
// empty.
func FindGap(text []byte, section, list string) (Gap, error) {
	l := slices.Collect(bytes.Lines(text))
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return Gap{}, err
	}
	top := &doc
	if len(doc.Content) > 0 {
		top = doc.Content[0]
	}
	sectionKey, keys := Child(top, section)
	listKey, elements := Child(keys, list)
	switch {
	case top.Kind != yaml.MappingNode:
		return after(l, len(l), 1, section, list), nil // nothing but comments
	case !isBlock(top):
		return Gap{}, notPlain(top, "the file is written in braces")
	case sectionKey == nil:
		return after(l, len(l), top.Column, section, list), nil
	case isAbsent(keys):
		return after(l, sectionKey.Line, sectionKey.Column+2, list), nil
	case !isBlock(keys):
		return Gap{}, notPlain(keys, "the "+section+" is written in braces, or elsewhere")
	case isAbsent(elements):
		return after(l, listKey.Line, listKey.Column+2), nil
	case isBlock(elements):
		return afterList(l, elements), nil
	case elements.Kind == yaml.SequenceNode && len(elements.Content) == 0:
		return insteadOf(text, l, listKey, elements)
	default:
		return Gap{}, notPlain(elements, "the "+list+" are written in brackets, or elsewhere")
	}
}

// after returns the gap after a line, with keys in a column that are not there
// yet, one below the other. A whole section has an empty line before it.
func after(lines [][]byte, line, column int, keys ...string) Gap {
	g := Gap{from: offset(lines, line)}
	g.to = g.from
	g.blank = len(keys) == 2 && line > 0 && len(bytes.TrimSpace(lines[line-1])) > 0
	for _, key := range keys {
		g.head += spaces(column) + key + ":\n"
		column += 2
	}
	g.Indent = spaces(column)
	return g
}

// afterList returns the gap after a list. To the list belong all lines that are
// indented more than its dashes, and comments in the column of the dashes.
func afterList(lines [][]byte, list *yaml.Node) Gap {
	end := lastLine(list)
	for i := end; i < len(lines); i++ {
		text := bytes.TrimLeft(lines[i], " ")
		column := len(lines[i]) - len(text) + 1
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if column < list.Column || column == list.Column && text[0] != '#' {
			break
		}
		end = i + 1
	}
	from := offset(lines, end)
	return Gap{from: from, to: from, blank: true, Indent: spaces(list.Column)}
}

// insteadOf returns the gap after a line that ends in [], but for a comment. The
// line is part of the gap, so that it can lose the brackets.
func insteadOf(text []byte, lines [][]byte, key, list *yaml.Node) (Gap, error) {
	from, to := offset(lines, list.Line-1), offset(lines, list.Line)
	line := bytes.TrimRight(text[from:to], "\r\n")
	m := regexp.MustCompile(`^([^#]*?:) *\[ *\]( *| +#.*)$`).FindSubmatch(line)
	if m == nil || key.Line != list.Line {
		return Gap{}, notPlain(list, "the list of "+key.Value+" is empty, but not plainly")
	}
	return Gap{from: from, to: to, head: string(m[1]) + string(m[2]) + "\n", Indent: spaces(key.Column + 2)}, nil
}

func isBlock(n *yaml.Node) bool {
	return (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) && n.Style&yaml.FlowStyle == 0
}

// isAbsent reports whether a key has nothing behind it.
func isAbsent(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Value == "" }

// lastLine returns the last line in which a node or one inside it begins.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// offset returns where the line after a number of lines begins.
func offset(lines [][]byte, n int) int {
	at := 0
	for _, line := range lines[:min(n, len(lines))] {
		at += len(line)
	}
	return at
}

// spaces returns what stands before a column.
func spaces(column int) string { return strings.Repeat(" ", column-1) }

func notPlain(at *yaml.Node, why string) error { return fmt.Errorf("line %d: %s", at.Line, why) }
