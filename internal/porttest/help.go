package porttest

import (
	"fmt"
	"regexp"
	"strings"
)

// maxHelpWords is the longest HELP text; legends belong in docs/metrics.md.
const maxHelpWords = 14

// dialect matches words that the glossary in CONTRIBUTING.md replaces.
var dialect = regexp.MustCompile(`(?i)\b(tells?|told|nobody|for want of|passed over|held to|stands for|what there is|at once)\b`)

// HelpFaults returns what is wrong with a HELP text of ours: too long, several
// lines, no full stop, or a word that is not plain.
func HelpFaults(help string) []string {
	var faults []string
	if n := len(strings.Fields(help)); n > maxHelpWords {
		faults = append(faults, fmt.Sprintf("%d words, limit %d", n, maxHelpWords))
	}
	if !strings.HasSuffix(help, ".") || strings.ContainsAny(help, "|\n") {
		faults = append(faults, "not one sentence that a table can hold")
	}
	if word := dialect.FindString(help); word != "" {
		faults = append(faults, fmt.Sprintf("says %q", word))
	}
	return faults
}
