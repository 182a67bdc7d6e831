package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/beside"
)

const (
	// readerSettle is how long a file must have been left alone before its new content
	// counts.
	readerSettle = time.Second
	// readerTrust is how long a file that seems unchanged is not read again: its time
	// and size may be as they were.
	readerTrust = 10 * time.Second
	// readerPatience is how long callers wait for a file system.
	readerPatience = 2 * time.Second
	// maxReadings is how many files may be read at the same time. On a file system that
	// does not answer each holds a thread.
	maxReadings = 256
)

// Reader reads files again and again for callers that run at the same time, such as
// the passwords of probes. There is at most one reading of a file, beside all who
// wait for it. A file that has not changed is not read again; one that changed within
// the last second has its earlier content, because it may be half written. The
// contents are shared: they must not be changed.
type Reader struct {
	calls *beside.Calls
	mu    sync.Mutex
	files map[string]*kept
}

// kept is what is known of a file. All but current belongs to the reading that is
// under way.
type kept struct {
	info    fs.FileInfo // of what was read last; nil if nothing was
	text    []byte
	read    time.Time // when text was read
	differs time.Time // since when the file has been different and unsettled
	current *reading  // nil if none is under way
}

// reading is one look at a file.
type reading struct {
	done chan struct{} // closed when the rest is set
	text []byte
	err  error
}

// NewReader returns a Reader of files of up to [DefaultLimit] bytes.
func NewReader() *Reader {
	return &Reader{calls: beside.New(beside.Limits{All: maxReadings, Patience: readerPatience}, nil), files: map[string]*kept{}}
}

var errNoAnswer = errors.New("file system timeout\nhint: the server of a network file system may be down")

// Read returns what is in a regular file. It waits two seconds at most. The error is
// a [*fs.PathError].
func (r *Reader) Read(path string) ([]byte, error) {
	k, one, isNew := r.join(path)
	if !isNew {
		<-one.done
		return one.text, one.err
	}
	ctx := context.Background() // patience ends it
	key := beside.Key{Name: path, Of: path}
	one.text, one.err = beside.Do(ctx, r.calls, key, func() ([]byte, error) { return k.refresh(ctx, path) })
	one.err = explained(path, one.err)
	r.mu.Lock()
	k.current = nil
	r.mu.Unlock()
	close(one.done)
	return one.text, one.err
}

// join returns the reading of a file that is under way, or a new one.
func (r *Reader) join(path string) (k *kept, one *reading, isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k = r.files[path]; k == nil {
		k = &kept{}
		r.files[path] = k
	}
	if isNew = k.current == nil; isNew {
		k.current = &reading{done: make(chan struct{})}
	}
	return k, k.current, isNew
}

// explained returns why a file could not be read.
func explained(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || err == nil {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errNoAnswer
	}
	return &fs.PathError{Op: "read", Path: path, Err: err}
}

// refresh returns the content that counts, reading the file if it must.
func (k *kept) refresh(ctx context.Context, path string) ([]byte, error) {
	info, _ := os.Stat(path) // Read says what is wrong
	if info != nil && k.info != nil && k.stillCounts(info) {
		return k.text, nil
	}
	text, err := Rules{}.Read(ctx, path)
	if err != nil {
		return nil, err
	}
	k.info, k.text, k.read, k.differs = info, text, time.Now(), time.Time{}
	return text, nil
}

// stillCounts reports whether what was read before counts now that the file is like
// this.
func (k *kept) stillCounts(now fs.FileInfo) bool {
	if os.SameFile(k.info, now) && k.info.Size() == now.Size() && k.info.ModTime().Equal(now.ModTime()) {
		k.differs = time.Time{}
		return time.Since(k.read) < readerTrust
	}
	if k.differs.IsZero() {
		k.differs = time.Now()
	}
	age := time.Since(now.ModTime()) // less than 0 for a file from the future, which may stay there for years
	return 0 <= age && age < readerSettle && time.Since(k.differs) < patience*readerSettle
}
