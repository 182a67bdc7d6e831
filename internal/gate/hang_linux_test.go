package gate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestAfterAHang has a link that leads to a file that hangs until no more readings of
// that are made, and then to a file without the password: that is put in force, and the
// password is refused.
func TestAfterAHang(t *testing.T) {
	t.Parallel()
	hanging := porttest.HangingFile(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yml")
	version := func(name, password string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("basic_auth_users:\n  prometheus: "+hashOf(t, password)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		settled(t, path)
		return path
	}
	porttest.Link(t, version("v1", "revoked"), file)
	s := start(t, dir)
	if status := s.status("revoked"); status != 200 {
		t.Fatalf("status %d", status)
	}
	porttest.Link(t, hanging, file)
	porttest.Await(t, "no more readings", func() bool {
		_ = s.gate.current()
		return strings.HasPrefix(s.gate.refusal, beside.ErrFull.Error())
	})
	porttest.Link(t, version("v2", "new"), file)
	porttest.Await(t, "the new password", func() bool { return s.status("new") == 200 })
	if status := s.status("revoked"); status != 401 {
		t.Errorf("the revoked password: %d", status)
	}
}
