package yamldoc

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds what the aliases of a module may grow to.
const maxNodes = 10_000

var errTooManyNodes = fmt.Errorf("the aliases in it grow to more than %d values", maxNodes)

// Plain returns a copy of a node that needs nothing around it: aliases and merge
// keys (<<) are written out, anchors and comments are gone.
func Plain(node *yaml.Node) (*yaml.Node, error) {
	budget := maxNodes
	return plainNode(node, &budget)
}

func plainNode(node *yaml.Node, budget *int) (*yaml.Node, error) {
	if *budget--; *budget < 0 {
		return nil, errTooManyNodes
	}
	switch node.Kind {
	case yaml.AliasNode:
		return plainNode(node.Alias, budget)
	case yaml.MappingNode:
		return plainMapping(node, budget)
	default:
		out := &yaml.Node{Kind: node.Kind, Style: node.Style, Tag: node.Tag, Value: node.Value, Line: node.Line, Column: node.Column}
		if node.Kind == yaml.ScalarNode && node.Value == "" && node.ShortTag() == "!!null" {
			out.Value = "null" // between braces the library writes nothing as an empty text
		}
		for _, child := range node.Content {
			c, err := plainNode(child, budget)
			if err != nil {
				return nil, err
			}
			out.Content = append(out.Content, c)
		}
		return out, nil
	}
}

// plainMapping puts the keys that are merged in behind the mapping's own, which
// win.
func plainMapping(node *yaml.Node, budget *int) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.MappingNode, Style: node.Style, Tag: node.Tag, Line: node.Line, Column: node.Column}
	var merged []*yaml.Node
	for key, value := range Pairs(node) {
		v, err := plainNode(value, budget)
		if err != nil {
			return nil, err
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, v)
			continue
		}
		k, err := plainNode(key, budget)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, k, v)
	}
	for _, m := range merged {
		if err := mergeInto(out, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func mergeInto(out, merged *yaml.Node) error {
	switch merged.Kind {
	case yaml.SequenceNode:
		for _, m := range merged.Content {
			if err := mergeInto(out, m); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		for key, value := range Pairs(merged) {
			if k, _ := Child(out, key.Value); k == nil {
				out.Content = append(out.Content, key, value)
			}
		}
	default:
		return Fault(merged, "<<", "%s where keys are expected", Describe(merged))
	}
	return nil
}

// Pairs yields the keys of a mapping with their values.
func Pairs(mapping *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if !yield(mapping.Content[i], mapping.Content[i+1]) {
				return
			}
		}
	}
}

// Cut takes a key out of a mapping and returns its value, or nil.
func Cut(mapping *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			key, value = mapping.Content[i], mapping.Content[i+1]
			mapping.Content = append(mapping.Content[:i:i], mapping.Content[i+2:]...)
			return key, value
		}
	}
	return nil, nil
}

// WithoutPlaces forgets where a node stood.
func WithoutPlaces(node *yaml.Node) {
	node.Line, node.Column = 0, 0
	for _, c := range node.Content {
		WithoutPlaces(c)
	}
}

// Twice finds keys that stand twice, at any depth.
func Twice(node *yaml.Node, place string) error {
	var faults []error
	seen := map[string]int{}
	for i, c := range node.Content {
		if node.Kind != yaml.MappingNode {
			faults = append(faults, Twice(c, fmt.Sprintf("%s[%d]", place, i)))
			continue
		}
		if i%2 == 1 {
			faults = append(faults, Twice(c, Join(place, node.Content[i-1].Value)))
			continue
		}
		if line, known := seen[c.Value]; known {
			faults = append(faults, Fault(c, Join(place, c.Value), "stands twice\nhint: it is in line %d already", line))
		}
		seen[c.Value] = c.Line
	}
	return errors.Join(faults...)
}

// FieldTypes returns the types of a struct's keys, inlined ones included, and
// that of all other keys where an inlined map takes them.
func FieldTypes(t reflect.Type) (known map[string]reflect.Type, rest reflect.Type) {
	known = map[string]reflect.Type{}
	for field := range t.Fields() {
		key, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case strings.Contains(options, "inline") && field.Type.Kind() == reflect.Map:
			rest = field.Type.Elem()
		case strings.Contains(options, "inline"):
			inner, _ := FieldTypes(field.Type)
			maps.Copy(known, inner)
		case key != "" && key != "-":
			known[key] = field.Type
		}
	}
	return known, rest
}

// Child returns a key of a mapping and its value, or nil.
func Child(mapping *yaml.Node, name string) (key, value *yaml.Node) {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i], mapping.Content[i+1]
		}
	}
	return nil, nil
}
