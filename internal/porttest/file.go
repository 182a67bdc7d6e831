package porttest

import (
	"os"
	"testing"
)

// ReadFile returns the text of a file, which must be there.
func ReadFile(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
