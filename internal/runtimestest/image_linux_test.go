package runtimestest_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// applets are what containers run; httpd listens.
var applets = []string{"httpd", "sh", "sleep"}

// rootfs returns a folder with busybox, which is enough of a system for every runtime.
func rootfs(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	busybox, err := os.ReadFile(porttest.Program(t, "SKIP-busybox", "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"bin", "etc", "usr", "dev", "proc", "sys", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil { //nolint:gosec // of a container
			t.Fatal(err)
		}
	}
	porttest.WriteProgram(t, filepath.Join(root, "bin/busybox"), busybox)
	for _, name := range applets {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "etc/os-release"), "ID=test\n")
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")
	return root
}

// image returns an archive as docker save makes it, which every runtime imports, of the
// folder and with a command of its own.
func image(t *testing.T, root, name, command string) (file string) {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.AddFS(os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"architecture": "amd64", "os": "linux", "config": {"Entrypoint": [%s]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:%x"]}}`,
		command, sha256.Sum256(layer.Bytes()))
	var archive bytes.Buffer
	w = tar.NewWriter(&archive)
	for _, f := range []struct {
		name string
		text []byte
	}{
		{"config.json", []byte(config)},
		{"layer.tar", layer.Bytes()},
		{"manifest.json", fmt.Appendf(nil, `[{"Config": "config.json", "RepoTags": ["localhost/%s:1"], "Layers": ["layer.tar"]}]`, name)},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(t.TempDir(), name+".tar"), archive.String())
}
