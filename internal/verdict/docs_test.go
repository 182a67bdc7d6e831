package verdict

import (
	"fmt"
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
	porttest.GoldenPart(t, page, begin, end, document())
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
