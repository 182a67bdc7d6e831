package docstest

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestSecurityPromisesHaveTests checks that each promise of docs/security.md
// names tests, one a line, and that each is in the file it links to.
func TestSecurityPromisesHaveTests(t *testing.T) {
	const file = root + "/docs/security.md"
	promises := regexp.MustCompile(`(?m)^### (\d\. .*)$`).Split(porttest.ReadFile(t, file), -1)[1:]
	if len(promises) != 6 {
		t.Fatalf("%d promises, want 6", len(promises))
	}
	line := regexp.MustCompile("^- `((?:Test|Fuzz)\\w+)` in \\[([\\w.-]+)\\]\\(([^)#]+)\\)$")
	for i, promise := range promises {
		promise, _, _ = strings.Cut(promise, "\n## ")
		named := 0
		for text := range strings.Lines(promise) {
			if !strings.HasPrefix(text, "- ") {
				continue
			}
			m := line.FindStringSubmatch(strings.TrimSpace(text))
			if m == nil {
				t.Errorf("promise %d: cannot read %s", i+1, text)
				continue
			}
			named++
			source := filepath.Join(filepath.Dir(file), filepath.FromSlash(m[3]))
			if filepath.Base(source) != m[2] || !strings.Contains(porttest.ReadFile(t, source), "\nfunc "+m[1]+"(") {
				t.Errorf("promise %d: there is no %s in %s", i+1, m[1], m[3])
			}
		}
		if named == 0 {
			t.Errorf("promise %d names no test", i+1)
		}
	}
}

// TestFaultsHaveTests checks that each test that docs/reliability.md names is there.
func TestFaultsHaveTests(t *testing.T) {
	declared := map[string]bool{}
	declaration := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == ".cache" {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range declaration.FindAllStringSubmatch(porttest.ReadFile(t, path), -1) {
			declared[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(porttest.ReadFile(t, root+"/docs/reliability.md"), -1)
	for _, m := range named {
		if !declared[m[1]] {
			t.Errorf("docs/reliability.md: there is no %s", m[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("docs/reliability.md names %d tests", len(named))
	}
}
