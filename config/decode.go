package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decode fills *into from a node, as yaml.Node.Decode does, but knows the place
// of everything: a fault reads "line 3: limits.listeners: …". Keys that are
// unknown or stand twice are faults; keys that are missing leave *into as it is.
func decode(node *yaml.Node, into any) error {
	return decodeValue(node, reflect.ValueOf(into).Elem(), "")
}

func decodeValue(node *yaml.Node, into reflect.Value, place string) error {
	if node.Kind == yaml.AliasNode {
		return decodeValue(node.Alias, into, place)
	}
	if node.Tag == "!!null" {
		return nil // "limits:" with everything below it commented out
	}
	switch into.Kind() {
	case reflect.Struct:
		return decodeStruct(node, into, place)
	default:
		// The library would cut 1.5 down to a whole number.
		fraction := into.Kind() == reflect.Int && node.ShortTag() != "!!int"
		if err := node.Decode(into.Addr().Interface()); err != nil || fraction {
			return fault(node, place, "%s is not %s", describe(node), kindName(into.Kind()))
		}
		return nil
	}
}

func decodeStruct(node *yaml.Node, into reflect.Value, place string) error {
	if node.Kind != yaml.MappingNode {
		return fault(node, place, "%s where keys are expected\nhint: the keys are %s", describe(node), strings.Join(keysOf(into.Type()), ", "))
	}
	var faults []error
	seen := map[string]int{}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := join(place, key.Value)
		field, known := fieldByKey(into, key.Value)
		switch line, twice := seen[key.Value]; {
		case twice:
			faults = append(faults, fault(key, at, "stands twice\nhint: it is in line %d already", line))
		case !known:
			faults = append(faults, fault(key, at, "unknown key\nhint: %s", suggest(key.Value, keysOf(into.Type()))))
		default:
			faults = append(faults, decodeValue(value, field, at))
		}
		seen[key.Value] = key.Line
	}
	return errors.Join(faults...)
}

func fault(node *yaml.Node, place, format string, args ...any) error {
	if place == "" {
		place = "top level"
	}
	return fmt.Errorf("line %d: %s: %s", node.Line, place, fmt.Sprintf(format, args...))
}

func join(place, key string) string {
	if place == "" {
		return key
	}
	return place + "." + key
}

func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		keys = append(keys, field.Tag.Get("yaml"))
	}
	return keys
}

// suggest names the key that was probably meant, or all of them.
func suggest(key string, keys []string) string {
	best, bestDistance := "", 3
	for _, candidate := range keys {
		if d := distance(strings.ToLower(key), candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "the keys here are " + strings.Join(keys, ", ")
}

// distance is the number of letters to insert, delete or change to get from a
// to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("%q", node.Value)
	}
}

func kindName(k reflect.Kind) string {
	switch k {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	default:
		return "of the right kind"
	}
}
