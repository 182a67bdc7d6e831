package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDocument describes a program whose modules are of every kind: with a + in its
// version, replaced, and with characters that no id may have.
func TestDocument(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.0",
		Main:      debug.Module{Path: "github.com/port-exporter/port_exporter", Version: "v1.2.3"},
		Deps: []*debug.Module{
			{Path: "example.org/a_b", Version: "v2.0.0+incompatible"},
			{Path: "example.org/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/new", Version: "v1.0.1"}},
		},
	}
	doc := describe(info, "port_exporter", sha256.Sum256([]byte("program")), time.Unix(1700000000, 0))
	want := [][3]string{
		{"SPDXRef-github.com-port-exporter-port-exporter", "v1.2.3", "pkg:golang/github.com/port-exporter/port_exporter@v1.2.3"},
		{"SPDXRef-stdlib", "1.26.0", "pkg:golang/stdlib@1.26.0"},
		{"SPDXRef-example.org-a-b", "v2.0.0+incompatible", "pkg:golang/example.org/a_b@v2.0.0%2Bincompatible"},
		{"SPDXRef-example.org-new", "v1.0.1", "pkg:golang/example.org/new@v1.0.1"},
	}
	var got [][3]string
	for _, p := range doc.Packages {
		got = append(got, [3]string{p.ID, p.Version, p.References[0].Locator})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	wantRelated := []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", want[0][0]}}
	for _, part := range want[1:] {
		wantRelated = append(wantRelated, relationship{want[0][0], "DEPENDS_ON", part[0]})
	}
	if diff := cmp.Diff(wantRelated, doc.Relationships); diff != "" {
		t.Errorf("relationships (-want +got):\n%s", diff)
	}
	if doc.Creation.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("created %s", doc.Creation.Created)
	}
}

func TestBadInput(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		epoch string
		args  []string
		want  string
	}{
		"no version": {"1", []string{self}, "usage"},
		"no program": {"1", []string{"main_test.go", "1"}, "main_test.go"},
		"no time":    {"", []string{self, "1"}, "SOURCE_DATE_EPOCH"},
	} {
		t.Setenv("SOURCE_DATE_EPOCH", tt.epoch)
		if err := run(tt.args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
