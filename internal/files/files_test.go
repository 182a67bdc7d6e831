package files

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, path string
		rules      Rules
		want       string // of the error; empty is none
	}{
		{"missing", filepath.Join(dir, "nope"), Rules{}, "no such file"},
		{"directory", dir, Rules{}, "it is a directory, not a regular file"},
		{"endless", "/dev/zero", Rules{}, "it is a device, not a regular file"},
		{"endless, pipes admitted", "/dev/zero", Rules{Pipes: true, Limit: 1000}, "it is larger than 1000 bytes"},
		{"too large", write(t, filepath.Join(dir, "large"), "12345"), Rules{Limit: 4}, "it is larger than 4 bytes"},
		{"just fits", write(t, filepath.Join(dir, "fits"), "1234"), Rules{Limit: 4}, ""},
		{"empty", write(t, filepath.Join(dir, "empty"), ""), Rules{}, ""},
		{"nothing", os.DevNull, Rules{}, ""},
	} {
		if tt.path == "/dev/zero" && !exists(tt.path) {
			continue
		}
		_, err := tt.rules.Read(t.Context(), tt.path)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestFuture has files whose times are an hour ahead, as on a server whose clock is.
// Whether they are left alone is seen by two looks.
func TestFuture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put := func(text string, ahead time.Duration) os.FileInfo {
		t.Helper()
		write(t, path, text)
		at := time.Now().Add(ahead)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	const settle = time.Hour
	var last look
	half := put("half", time.Hour)
	if wait := last.unsettled(half, settle); wait <= 0 {
		t.Errorf("the first look: %v", wait)
	}
	last.at = last.at.Add(-settle)
	if wait := last.unsettled(half, settle); wait > 0 {
		t.Errorf("left alone: %v", wait)
	}
	if wait := last.unsettled(put("whole", 2*time.Hour), settle); wait <= 0 {
		t.Errorf("changed: %v", wait)
	}
	began := time.Now()
	const short = 100 * time.Millisecond
	if text, err := (Rules{Settle: short}).Read(t.Context(), path); string(text) != "whole" || err != nil || time.Since(began) < short {
		t.Errorf("read %q after %v, %v", text, time.Since(began), err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestHalfWritten has writers that truncate a file and write it in pieces, as
// most tools do: what is read is always the whole.
func TestHalfWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	piece := bytes.Repeat([]byte("x"), 1000)
	const pieces = 20
	write(t, path, strings.Repeat(string(piece), pieces))
	ended := make(chan error, 1)
	go func() {
		for range 3 {
			f, err := os.Create(path)
			if err != nil {
				ended <- err
				return
			}
			for range pieces {
				_, _ = f.Write(piece)
				time.Sleep(2 * time.Millisecond)
			}
			_ = f.Close()
		}
		ended <- nil
	}()
	rules := Rules{Settle: 300 * time.Millisecond}
	for range 3 {
		text, err := rules.Read(t.Context(), path)
		if errors.Is(err, errChanging) {
			continue
		}
		if err != nil || len(text) != pieces*len(piece) {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestNeverSettles has a file that changes for ever.
func TestNeverSettles(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "f"), "")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			now := time.Now()
			_ = os.Chtimes(path, now, now)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	defer func() { stop(); <-ended }()
	if _, err := (Rules{Settle: 2 * time.Second}).Read(t.Context(), path); !errors.Is(err, errChanging) {
		t.Errorf("error %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (Rules{Settle: time.Hour}).Read(short, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after its time: %v", err)
	}
}
