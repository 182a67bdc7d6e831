package porttest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Promtool runs promtool on a text, given to it as a file behind the arguments,
// and fails the test when it does. Without promtool the test is skipped.
func Promtool(t testing.TB, text string, args ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "text.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), PromtoolPath(t), append(args, file)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s\n%s", cmd, err, out, text)
	}
}

// PromtoolPath returns where promtool is: PROMTOOL, else PATH. Without it the
// test is skipped.
func PromtoolPath(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("PROMTOOL"); path != "" {
		return path
	}
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIP-PROMTOOL: promtool is not in PATH, and PROMTOOL does not name it")
	}
	return path
}

// CheckQueries hands queries to promtool. It has no command for a lone query,
// so each becomes a rule; a name like level:metric:operation keeps it from
// complaining about anything else.
func CheckQueries(t testing.TB, queries []string) {
	t.Helper()
	if len(queries) == 0 {
		t.Fatal("no query found")
	}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for i, query := range queries {
		rules = append(rules, rule{fmt.Sprintf("test:query:n%d", i), query})
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "test", "rules": rules}}}) // JSON is YAML too
	if err != nil {
		t.Fatal(err)
	}
	Promtool(t, string(text), "check", "rules")
}
