package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestReader changes a file in the ways that others change files. What is read is
// what was there when the file was last left alone for a while.
func TestReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	old := time.Now().Add(-time.Hour)
	var last time.Time
	put := func(text string, changed time.Time) {
		t.Helper()
		last = changed
		write(t, path, text)
		if err := os.Chtimes(path, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader()
	read := func(what, want string) {
		t.Helper()
		text, err := r.Read(path)
		if got := fmt.Sprintf("%s%v", text, err); got != want+"<nil>" {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	fresh := func(what, want string) {
		t.Helper()
		text, err := r.Read(path)
		if time.Since(last) >= readerSettle {
			t.Logf("%s: this machine is too slow to see it", what)
		} else if string(text) != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", what, text, err, want)
		}
	}
	if _, err := r.Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	put("first", time.Now())
	read("the first time it is not waited for", "first")
	put("second", old)
	read("settled", "second")
	put("", time.Now())
	fresh("truncated this moment", "second")
	put("thi", time.Now())
	fresh("half written", "second")
	put("third", old.Add(time.Minute))
	read("settled again", "third")
	put("future", time.Now().Add(time.Hour))
	read("from the future", "future")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
	put("back", old)
	read("back", "back")
}

// TestReaderOfWhatNeverSettles has a file that is written again and again: in the end
// it is read as it is.
func TestReaderOfWhatNeverSettles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "before")
	r := NewReader()
	if text, err := r.Read(path); string(text) != "before" || err != nil {
		t.Fatalf("%s, %v", text, err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		write(t, path, "after")
		if text, err := r.Read(path); string(text) == "after" && err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("it is never read")
}

// TestReaderReadsOnce has many callers: an unchanged file is read once, and they
// share what was read.
func TestReaderReadsOnce(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "f"), strings.Repeat("x", 1<<20))
	r := NewReader()
	first, err := r.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for range 20 {
				if text, err := r.Read(path); err != nil || len(text) != len(first) || &text[0] != &first[0] {
					t.Errorf("%d bytes of another reading, %v", len(text), err)
				}
			}
		})
	}
	callers.Wait()
}

// TestReaderOfWhatIsNoFile has what cannot be read, or not to its end.
func TestReaderOfWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	large := write(t, filepath.Join(dir, "large"), "")
	if err := os.Truncate(large, DefaultLimit+1); err != nil {
		t.Fatal(err)
	}
	r := NewReader()
	for path, want := range map[string]string{dir: "it is a directory", "/dev/zero": "it is a device", large: "it is larger than"} {
		if path == "/dev/zero" && !exists(path) {
			continue
		}
		_, err := r.Read(path)
		if _, ok := errors.AsType[*fs.PathError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// TestReaderDoesNotWait has a reading that never comes back. Its callers do, later
// ones immediately, and other files are read.
func TestReaderDoesNotWait(t *testing.T) {
	dir := t.TempDir()
	stuck, fine := filepath.Join(dir, "stuck"), write(t, filepath.Join(dir, "fine"), "x")
	r, began, release := NewReader(), make(chan struct{}), make(chan struct{})
	defer close(release)
	go func() {
		_, _ = Beside(t.Context(), r.calls, func() (int, error) {
			close(began)
			<-release
			return 0, nil
		}, stuck)
	}()
	<-began
	for range 2 {
		if _, err := r.Read(stuck); !errors.Is(err, errNoAnswer) {
			t.Errorf("stuck: %v", err)
		}
	}
	start := time.Now()
	for range 100 {
		if _, err := r.Read(stuck); !errors.Is(err, errNoAnswer) {
			t.Errorf("stuck: %v", err)
		}
	}
	if took := time.Since(start); took > readerPatience {
		t.Errorf("later callers waited, %v for 100", took)
	}
	if text, err := r.Read(fine); string(text) != "x" || err != nil {
		t.Errorf("another file: %q, %v", text, err)
	}
}
