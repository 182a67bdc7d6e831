package yamldoc

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Decode fills *into from a node, as yaml.Node.Decode does, but knows the place
// of everything: a fault reads "line 3: limits.listeners: …". Keys that are
// unknown or stand twice are faults; keys that are missing leave *into as it is.
//
// A type that is an encoding.TextUnmarshaler reads its text and says itself what
// is wrong with it. A slice of what is no mapping may be a single value too.
func Decode(node *yaml.Node, into any) error {
	return DecodeValue(node, reflect.ValueOf(into).Elem(), "")
}

// located is a raw struct that keeps the line where it begins, for faults that
// only show when all is read.
type located interface{ SetLine(line int) }

// keyed is a raw struct that keeps the lines of its keys, for the same.
type keyed interface{ SetKeyLine(key string, line int) }

// decoded is what reads a node in its own way.
type decoded interface {
	DecodeNode(node *yaml.Node, place string) error
}

// checked is a raw list that does not take every number of elements.
type checked interface{ Check() error }

// DecodeValue is [Decode] into a value that is addressable, at a place that faults name.
func DecodeValue(node *yaml.Node, into reflect.Value, place string) error {
	if node.Kind == yaml.AliasNode {
		return DecodeValue(node.Alias, into, place)
	}
	if own, ok := reflect.TypeAssert[decoded](into.Addr()); ok {
		return own.DecodeNode(node, place)
	}
	if node.ShortTag() == "!!null" {
		if isSection(into.Type()) {
			return nil // "limits:" with everything below it commented out
		}
		// Of a rule this would match everything, which is never intended.
		return Fault(node, place, "nothing stands behind it\nhint: give it a value, or leave the key out")
	}
	if text, ok := reflect.TypeAssert[encoding.TextUnmarshaler](into.Addr()); ok {
		return decodeText(node, text, place)
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return DecodeValue(node, into.Elem(), place)
	case reflect.Struct:
		return decodeStruct(node, into, place)
	case reflect.Slice:
		return decodeList(node, into, place)
	default:
		if into.Kind() == reflect.Int && IsOctal(node) {
			return FaultOctal(node, place)
		}
		// The library would cut 1.5 down to a whole number.
		fraction := into.Kind() == reflect.Int && node.ShortTag() != "!!int"
		if err := node.Decode(into.Addr().Interface()); err != nil || fraction {
			return Fault(node, place, "%s is not %s", Describe(node), kindName(into.Kind()))
		}
		return nil
	}
}

func decodeText(node *yaml.Node, into encoding.TextUnmarshaler, place string) error {
	var text string
	if err := node.Decode(&text); err != nil {
		return Fault(node, place, "%s where a single value is expected", Describe(node))
	}
	if err := into.UnmarshalText([]byte(text)); err != nil {
		return Fault(node, place, "%v", err)
	}
	return nil
}

func decodeList(node *yaml.Node, into reflect.Value, place string) error {
	element := into.Type().Elem()
	if node.Kind == yaml.ScalarNode && !isMapping(element) {
		into.Set(reflect.MakeSlice(into.Type(), 1, 1))
		return DecodeValue(node, into.Index(0), place)
	}
	if node.Kind != yaml.SequenceNode {
		return Fault(node, place, "%s where a list is expected\nhint: each element of a list begins with a dash", Describe(node))
	}
	var faults []error
	into.Set(reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		at := fmt.Sprintf("%s[%d]", place, i)
		if item.ShortTag() == "!!null" {
			faults = append(faults, Fault(item, at, "the element is empty\nhint: remove it"))
			continue
		}
		faults = append(faults, DecodeValue(item, into.Index(i), at))
	}
	if list, ok := reflect.TypeAssert[checked](into.Addr()); ok {
		if err := list.Check(); err != nil {
			faults = append(faults, Fault(node, place, "%v", err))
		}
	}
	return errors.Join(faults...)
}

// isSection reports whether a type is a part of the file that has keys below it.
func isSection(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return isMapping(t)
}

// isMapping reports whether values of the type are written with keys.
func isMapping(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func decodeStruct(node *yaml.Node, into reflect.Value, place string) error {
	if node.Kind != yaml.MappingNode {
		return Fault(node, place, "%s where keys are expected\nhint: the keys are %s", Describe(node), strings.Join(KeysOf(into.Type()), ", "))
	}
	if l, ok := reflect.TypeAssert[located](into.Addr()); ok {
		l.SetLine(node.Line)
	}
	var faults []error
	seen := map[string]int{}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := Join(place, key.Value)
		field, known := fieldByKey(into, key.Value)
		switch line, twice := seen[key.Value]; {
		case twice:
			faults = append(faults, Fault(key, at, "stands twice\nhint: it is in line %d already", line))
		case !known:
			faults = append(faults, Fault(key, at, "unknown key\nhint: %s", Suggest(key.Value, "keys here", KeysOf(into.Type()))))
		default:
			faults = append(faults, DecodeValue(value, field, at))
		}
		seen[key.Value] = key.Line
		if k, ok := reflect.TypeAssert[keyed](into.Addr()); ok {
			k.SetKeyLine(key.Value, key.Line)
		}
	}
	return errors.Join(faults...)
}

// Fault is an error that names the line of a node and its place.
func Fault(node *yaml.Node, place, format string, args ...any) error {
	if place == "" {
		place = "top level"
	}
	return fmt.Errorf("line %d: %s: %s", node.Line, short(place), fmt.Sprintf(format, args...))
}

// IsOctal reports whether a whole number is one to YAML 1.1 that people read as
// another: 0777 is 511.
func IsOctal(node *yaml.Node) bool {
	digits := strings.TrimLeft(node.Value, "+-")
	return node.Kind == yaml.ScalarNode && len(digits) > 1 && digits[0] == '0' && strings.Trim(digits, "0123456789_") == ""
}

// FaultOctal is the fault of a number that YAML 1.1 and 1.2 read differently.
func FaultOctal(node *yaml.Node, place string) error {
	return Fault(node, place, "%q begins with 0, which YAML takes for octal\nhint: write %s", node.Value, cmp.Or(strings.TrimLeft(node.Value, "0_"), "0"))
}

// maxShown is how much of a place or a value a message has, in bytes.
const maxShown = 200

// short cuts what a message has from the file.
func short(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}

// Join returns the place of a key.
func Join(place, key string) string {
	if place == "" {
		return key
	}
	return place + "." + key
}

func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if known := KeyOf(v.Type().Field(i)); known != "" && known == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// KeysOf returns the keys that a struct has, in their order.
func KeysOf(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		if key := KeyOf(field); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// KeyOf returns the key of a field, or nothing for one that is not in the file.
func KeyOf(field reflect.StructField) string {
	key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	return key
}

// Suggest names the word that was probably meant, or all that are known.
func Suggest(word, what string, known []string) string {
	best, bestDistance := "", 3
	for _, candidate := range known {
		if d := Distance(strings.ToLower(word), candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return fmt.Sprintf("the %s are %s", what, strings.Join(known, ", "))
}

// Distance is the number of letters to insert, delete or change to get from a
// to b (Levenshtein).
func Distance(a, b string) int {
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

// Describe says what a node is, for faults.
func Describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("%q", short(node.Value))
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
	case reflect.Map:
		return "a mapping of names to texts"
	default:
		return "of the right kind"
	}
}
