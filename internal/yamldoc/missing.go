package yamldoc

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Missing returns what a document had before and does not have now, by its place: keys
// of mappings that are still there, and lists with fewer elements. Elements of lists are
// the same if they are equal, else by their name, else in their order. A value that was
// replaced is not missing. Both are without aliases.
func Missing(before, now *yaml.Node) []string { return missing("", before, now) }

func missing(place string, before, now *yaml.Node) (places []string) {
	if before.Kind == yaml.MappingNode && now.Kind == yaml.MappingNode {
		return missingKeys(place, before, now)
	}
	had, has := elements(before), elements(now)
	if has < had {
		places = append(places, fmt.Sprintf("%s (%d of %d elements)", place, has, had))
	}
	if before.Kind == yaml.SequenceNode && now.Kind == yaml.SequenceNode {
		for _, p := range pairElements(before.Content, now.Content) {
			places = append(places, missing(place+p.place, p.before, p.now)...)
		}
	}
	return places
}

func missingKeys(place string, before, now *yaml.Node) (places []string) {
	values := map[string]*yaml.Node{}
	for key, value := range Pairs(now) {
		values[key.Value] = value
	}
	for key, value := range Pairs(before) {
		at := Join(place, key.Value)
		switch has := values[key.Value]; {
		case isNothing(value):
		case has == nil || isNothing(has):
			places = append(places, at)
		default:
			places = append(places, missing(at, value, has)...)
		}
	}
	return places
}

func isNothing(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// elements returns how many a list has; one value may be written without brackets.
func elements(node *yaml.Node) int {
	if node.Kind == yaml.SequenceNode {
		return len(node.Content)
	}
	return 1
}

// element is one of a list.
type element struct {
	index int
	node  *yaml.Node
}

// pair is an element of a list, before and now.
type pair struct {
	place       string // as "[3]", where it is now
	before, now *yaml.Node
}

// pairElements returns the elements that changed.
func pairElements(before, now []*yaml.Node) (changed []pair) {
	was, is := unequal(before, now), unequal(now, before)
	add := func(b, n element) { changed = append(changed, pair{fmt.Sprintf("[%d]", n.index), b.node, n.node}) }
	named := map[string]element{}
	for _, e := range was {
		named[nameOf(e.node)] = e
	}
	delete(named, "")
	found := map[*yaml.Node]bool{}
	is = slices.DeleteFunc(is, func(e element) bool {
		b, ok := named[nameOf(e.node)]
		if ok = ok && !found[b.node]; ok {
			found[b.node] = true
			add(b, e)
		}
		return ok
	})
	was = slices.DeleteFunc(was, func(e element) bool { return found[e.node] })
	for i := range min(len(was), len(is)) {
		add(was[i], is[i])
	}
	return changed
}

// unequal returns the elements of a list of which another has no equal.
func unequal(list, other []*yaml.Node) (left []element) {
	count := map[string]int{}
	for _, node := range other {
		count[textOf(node)]++
	}
	for i, node := range list {
		if text := textOf(node); count[text] > 0 {
			count[text]--
		} else {
			left = append(left, element{i, node})
		}
	}
	return left
}

// nameOf returns the name that a mapping has; empty without.
func nameOf(node *yaml.Node) string {
	if _, name := Child(node, "name"); name != nil {
		return name.Value
	}
	return ""
}

// textOf returns a text that only equal nodes have.
func textOf(node *yaml.Node) string {
	var b strings.Builder
	writeText(&b, node)
	return b.String()
}

func writeText(b *strings.Builder, node *yaml.Node) {
	fmt.Fprintf(b, "%d %q[", node.Kind, node.Value)
	for _, c := range node.Content {
		writeText(b, c)
	}
	b.WriteByte(']')
}
