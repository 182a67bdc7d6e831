package files

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestReaderAfterAHang has a link that leads to a file that hangs, and then to another
// one: that is read immediately, and what hangs is not read again and again.
func TestReaderAfterAHang(t *testing.T) {
	hanging := porttest.HangingFile(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "password")
	r := NewReader()
	for _, want := range []string{"first", "second"} {
		porttest.Link(t, hanging, link)
		for range 3 {
			if _, err := r.Read(link); !errors.Is(err, errNoAnswer) {
				t.Errorf("hanging: %v", err)
			}
		}
		other, long := write(t, filepath.Join(dir, want), want), time.Now().Add(-time.Hour)
		if err := os.Chtimes(other, long, long); err != nil {
			t.Fatal(err)
		}
		porttest.Link(t, other, link)
		if text, err := r.Read(link); string(text) != want || err != nil {
			t.Errorf("put right: %q, %v", text, err)
		}
	}
}
