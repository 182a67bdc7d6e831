package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestUnreadableFile has one that this user may not read, and one that it may.
func TestUnreadableFile(t *testing.T) {
	dir := porttest.OpenDir(t)
	for mode, want := range map[os.FileMode]error{0: fs.ErrPermission, 0o444: nil} {
		path := filepath.Join(dir, mode.String())
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		porttest.AsNobody(t, func() {
			if err := files.Check(path); !errors.Is(err, want) {
				t.Errorf("mode %v: %v, want %v", mode, err, want)
			}
		})
	}
}
