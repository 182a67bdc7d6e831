package docstest

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPromisesHaveTests checks that each promise of docs/security.md
// names tests, one a line, and that each is in the file it links to.
func TestSecurityPromisesHaveTests(t *testing.T) {
	const file = root + "/docs/security.md"
	promises := regexp.MustCompile(`(?m)^### (\d\. .*)$`).Split(read(t, file), -1)[1:]
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
			if filepath.Base(source) != m[2] || !strings.Contains(read(t, source), "\nfunc "+m[1]+"(") {
				t.Errorf("promise %d: there is no %s in %s", i+1, m[1], m[3])
			}
		}
		if named == 0 {
			t.Errorf("promise %d names no test", i+1)
		}
	}
}
