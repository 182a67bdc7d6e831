package verdict

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const (
	page  = "../../docs/diagnosis.md"
	begin = "<!-- The verdicts, generated from internal/verdict by `make generate`; do not edit. -->\n"
	end   = "<!-- end of the verdicts -->\n"
)

// TestDocument compares the table of docs/diagnosis.md with the codes.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatal("the page has no place for the table")
	}
	porttest.Golden(t, page, before+begin+document()+end+after)
}

func document() string {
	var b strings.Builder
	b.WriteString("| verdict | place | meaning | what to try | `error.type` | in the clouds |\n| --- | --- | --- | --- | --- | --- |\n")
	for c := range NumCodes {
		i := Of(c)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", i.Name, code(i.Place.String()), i.Meaning, i.Next, code(i.ErrorType), i.Cloud)
	}
	return b.String()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
