package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// checker compares a node with a type of a library. The library's own decoder names
// neither the place of a fault nor the key that was meant.
type checker struct {
	place string
	files *[]namedFile // takes the files that are named, if not nil
}

// at is the checker of a part of the node.
func (c checker) at(place string) checker { return checker{place, c.files} }

// node finds keys that a type does not have, and values that are none of its
// type, at any depth.
func (c checker) node(node *yaml.Node, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case node.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		return c.list(node, t.Elem())
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		var faults []error
		for key, value := range yamldoc.Pairs(node) {
			faults = append(faults, c.at(yamldoc.Join(c.place, key.Value)).node(value, t.Elem()))
		}
		return errors.Join(faults...)
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Struct && !isText(t):
		return c.mapping(node, t)
	default:
		return c.value(node, t)
	}
}

func (c checker) list(node *yaml.Node, element reflect.Type) error {
	var faults []error
	for i, item := range node.Content {
		faults = append(faults, c.at(fmt.Sprintf("%s[%d]", c.place, i)).node(item, element))
	}
	return errors.Join(faults...)
}

func (c checker) mapping(node *yaml.Node, t reflect.Type) error {
	var faults []error
	known, rest := yamldoc.FieldTypes(t)
	for key, value := range yamldoc.Pairs(node) {
		at := c.at(yamldoc.Join(c.place, key.Value))
		switch field := known[key.Value]; {
		case field != nil:
			faults = append(faults, at.node(value, field))
			if at.files != nil && namesFile(key.Value, t) {
				*at.files = append(*at.files, filesOf(value, at.place)...)
			}
		case rest != nil:
			faults = append(faults, at.node(value, rest))
		default:
			faults = append(faults, yamldoc.Fault(key, at.place, "unknown key\nhint: %s", yamldoc.Suggest(key.Value, "keys here", withOwnKeys(sortedKeys(known), t))))
		}
	}
	return errors.Join(faults...)
}

// withOwnKeys adds to the keys of a type of blackbox_exporter ours beside them,
// which are taken out before it is looked at.
func withOwnKeys(theirs []string, t reflect.Type) []string {
	var own []string
	switch t {
	case reflect.TypeFor[blackbox.Module]():
		own = append(yamldoc.KeysOf(reflect.TypeFor[ownKeys]()), probe.KindWebSocket)
	case reflect.TypeOf(blackbox.Module{}.TCP):
		own = yamldoc.KeysOf(reflect.TypeFor[ownTCPKeys]())
	case reflect.TypeFor[blackbox.Step]():
		own = yamldoc.KeysOf(reflect.TypeFor[ownStep]())
	}
	all := slices.Concat(theirs, own)
	slices.Sort(all)
	return slices.Compact(all)
}

// value decodes what has no keys of its own, or what should have some.
func (c checker) value(node *yaml.Node, t reflect.Type) error {
	if t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 && node.ShortTag() == "!!int" && yamldoc.IsOctal(node) {
		return yamldoc.FaultOctal(node, c.place)
	}
	err := node.Decode(reflect.New(t).Interface())
	switch {
	case err == nil:
		return nil
	case t == reflect.TypeFor[time.Duration]() && node.Kind == yaml.ScalarNode:
		return yamldoc.Fault(node, c.place, "%q is not a duration\nhint: write a number with its unit, such as 30s or 5m", node.Value)
	case t == reflect.TypeFor[blackbox.Regexp]() && node.Kind == yaml.ScalarNode:
		if _, why := regexp.Compile(node.Value); why != nil {
			return yamldoc.Fault(node, c.place, "%v\nhint: %s", why, hintRegexp)
		}
	}
	if wanted := wantedOf(t); wanted != "" && isMisfit(err) {
		return yamldoc.Fault(node, c.place, "%s where %s", shapeOf(node), wanted)
	}
	var faults []error
	for _, text := range withoutValues(err) {
		if line, rest, located := strings.Cut(text, ": "); located && strings.HasPrefix(line, "line ") {
			text = rest
		}
		faults = append(faults, yamldoc.Fault(node, c.place, "%s", text))
	}
	return errors.Join(faults...)
}

// isMisfit reports whether the library found a value that is none of the type, and
// nothing else: it would name a type of Go.
func isMisfit(err error) bool {
	typed, ok := errors.AsType[*yaml.TypeError](err)
	return ok && !slices.ContainsFunc(typed.Errors, func(text string) bool { return !strings.Contains(text, "cannot unmarshal") })
}

// shapeOf says what a node is. Its value may be a secret.
func shapeOf(node *yaml.Node) string {
	if node.Kind == yaml.ScalarNode {
		return "a single value"
	}
	return yamldoc.Describe(node)
}

// wantedOf says what a type of a library wants, if that is known.
func wantedOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "keys are expected"
	case reflect.Slice, reflect.Array:
		return "a list is expected\nhint: each element of a list begins with a dash"
	case reflect.Bool:
		return "true or false is expected"
	case reflect.Float32, reflect.Float64:
		return "a number is expected"
	case reflect.String:
		return "a text is expected"
	default:
		if t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 {
			return "a whole number is expected"
		}
		return ""
	}
}

const hintRegexp = "the syntax is that of RE2, without lookaround and backreferences"

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// namedFile is a file that a module names.
type namedFile struct {
	line        int
	place, path string
}

// namesFile reports whether what stands behind a key of a type are paths: of
// ca_file, password_file and their like, and of the files of an HTTP header.
func namesFile(key string, t reflect.Type) bool {
	return strings.HasSuffix(key, "_file") || key == "files" && t == reflect.TypeFor[blackbox.Header]()
}

func filesOf(node *yaml.Node, place string) []namedFile {
	var files []namedFile
	if node.Kind == yaml.ScalarNode && node.Value != "" && node.ShortTag() != "!!null" {
		files = append(files, namedFile{node.Line, place, node.Value})
	}
	for i, item := range node.Content {
		files = append(files, filesOf(item, fmt.Sprintf("%s[%d]", place, i))...)
	}
	return files
}

// check reports that the file cannot be read, as it would be for a probe.
func (f namedFile) check() error {
	err := files.Check(f.path)
	if err == nil {
		return nil
	}
	hint := "it is read at each probe, by the user that the exporter runs as"
	if !filepath.IsAbs(f.path) {
		dir, _ := os.Getwd()
		hint = fmt.Sprintf("the path is relative to the working directory, which is %s", dir)
	}
	return fmt.Errorf("line %d: %s: %w\nhint: %s", f.line, f.place, err, hint)
}
