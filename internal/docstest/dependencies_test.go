package docstest

import (
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestDependencies compares the table of docs/dependencies.md with the modules that go.mod
// requires directly, and with what imports them.
func TestDependencies(t *testing.T) {
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(.*?)` \\|.*\\| (program|tests) \\|$").FindAllStringSubmatch(porttest.ReadFile(t, root+"/docs/dependencies.md"), -1) {
		documented[row[1]] = row[2]
	}
	used := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(porttest.ReadFile(t, root+"/go.mod"), -1) {
		used[m[1]] = "tests"
	}
	for _, file := range files(t, ".go") {
		if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "/porttest/") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			for module := range used {
				if path := strings.Trim(i.Path.Value, `"`); path == module || strings.HasPrefix(path, module+"/") {
					used[module] = "program"
				}
			}
		}
	}
	if diff := cmp.Diff(used, documented); diff != "" {
		t.Errorf("direct dependencies (-go.mod +docs/dependencies.md):\n%s", diff)
	}
}

// TestVersion compares VERSION with the topmost heading of the changelog.
func TestVersion(t *testing.T) {
	version := strings.TrimSpace(porttest.ReadFile(t, root+"/VERSION"))
	heading := regexp.MustCompile(`(?m)^## (\S+)`).FindStringSubmatch(porttest.ReadFile(t, root+"/CHANGELOG.md"))
	if heading == nil || heading[1] != version {
		t.Errorf("VERSION is %q, the changelog begins with %q", version, heading)
	}
}
