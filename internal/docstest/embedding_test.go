package docstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestEmbedding compiles the program in docs/embedding.md.
func TestEmbedding(t *testing.T) {
	blocks := fences(porttest.ReadFile(t, root+"/docs/embedding.md"), "go")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of Go, want 1", len(blocks))
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(blocks[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	vet := exec.CommandContext(t.Context(), "go", "vet", file)
	vet.Dir = root
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
