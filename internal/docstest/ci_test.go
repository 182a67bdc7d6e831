package docstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestWhatCIHasToRun checks that .ci/ran fails, with the name, when one of the tests
// that it lists did not run, or only in part.
func TestWhatCIHasToRun(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("SKIP-BASH: it is not in PATH")
	}
	list, _, _ := strings.Cut(porttest.ReadFile(t, root+"/.ci/ran"), "\n)\n")
	names := regexp.MustCompile(`\bTest\w+`).FindAllString(list, -1)
	if len(names) < 15 {
		t.Fatalf("only %d tests are listed: %q", len(names), names)
	}
	ran := func(results string) (string, error) {
		file := filepath.Join(t.TempDir(), "results")
		if err := os.WriteFile(file, []byte(results), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(bash, root+"/.ci/ran", file).CombinedOutput()
		return string(out), err
	}
	all := ""
	for _, name := range names {
		all += "--- PASS: " + name + " (0.01s)\n"
	}
	if out, err := ran(all); err != nil {
		t.Errorf("all ran: %v\n%s", err, out)
	}
	line := func(name string) string { return "--- PASS: " + name + " (0.01s)\n" }
	parts := all
	for _, name := range names {
		parts += "    --- SKIP: " + name + "/some (0.00s)\n"
	}
	const twice = "TestServersInNamespace" // in two packages
	for _, tt := range []struct {
		what, results string
		want          []string
	}{
		{"nothing ran", "", names},
		{"all in part", parts, names},
		{"one did not", strings.Replace(all, line(names[0]), "", 1), names[:1]},
		{"one was skipped", strings.Replace(all, line(names[0]), "--- SKIP: "+names[0]+" (0.00s)\n", 1), names[:1]},
		{"one of two packages", strings.Replace(all, line(twice), "", 1), []string{twice}},
	} {
		out, err := ran(tt.results)
		if err == nil {
			t.Errorf("%s: it passes", tt.what)
		}
		for _, name := range tt.want {
			if !strings.Contains(out, name) {
				t.Errorf("%s: %s is not named:\n%s", tt.what, name, out)
			}
		}
	}
}
