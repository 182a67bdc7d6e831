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
	// does not answer each holds a thread. Of one file that does not answer one may, and
	// one more after readerRetry.
	maxReadings = 256
	readerRetry = time.Minute
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

// kept is what is known of a file.
type kept struct {
	content
	number  int      // of the latest reading that began
	stored  int      // of the reading that content is from
	current *reading // nil if none is under way
}

// content is what was read last.
type content struct {
	info    fs.FileInfo // nil if nothing was read
	text    []byte
	read    time.Time // when text was read
	differs time.Time // since when the file has been different and unsettled
}

// reading is one look at a file.
type reading struct {
	number int
	before content
	done   chan struct{} // closed when the rest is set
	text   []byte
	err    error
}

// NewReader returns a Reader of files of up to [DefaultLimit] bytes.
func NewReader() *Reader {
	return &Reader{calls: beside.New(beside.Limits{All: maxReadings, Each: 1, Retry: readerRetry}, nil), files: map[string]*kept{}}
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
	ctx, cancel := context.WithTimeout(context.Background(), readerPatience)
	defer cancel()
	one.text, one.err = Beside(ctx, r.calls, func() ([]byte, error) {
		after, err := one.before.refresh(context.WithoutCancel(ctx), path) // late is better than never
		r.store(k, one, after)
		if err != nil {
			return nil, err
		}
		return after.text, nil
	}, path)
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
		k.number++
		k.current = &reading{number: k.number, before: k.content, done: make(chan struct{})}
	}
	return k, k.current, isNew
}

// store keeps what a reading found, unless a later one has found something before.
func (r *Reader) store(k *kept, one *reading, found content) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one.number > k.stored {
		k.content, k.stored = found, one.number
	}
}

// explained returns why a file could not be read.
func explained(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || err == nil {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, beside.ErrFull) {
		err = errNoAnswer
	}
	return &fs.PathError{Op: "read", Path: path, Err: err}
}

// refresh returns the content that counts, reading the file if it must. With an error
// it is the one before.
func (c content) refresh(ctx context.Context, path string) (content, error) {
	info, _ := os.Stat(path) // Read says what is wrong
	if info != nil && c.info != nil && c.stillCounts(info) {
		return c, nil
	}
	text, err := Rules{}.Read(ctx, path)
	if err != nil {
		return c, err
	}
	return content{info: info, text: text, read: time.Now()}, nil
}

// stillCounts reports whether what was read before counts now that the file is like
// this.
func (c *content) stillCounts(now fs.FileInfo) bool {
	if os.SameFile(c.info, now) && c.info.Size() == now.Size() && c.info.ModTime().Equal(now.ModTime()) {
		c.differs = time.Time{}
		return time.Since(c.read) < readerTrust
	}
	if c.differs.IsZero() {
		c.differs = time.Now()
	}
	age := time.Since(now.ModTime()) // less than 0 for a file from the future, which may stay there for years
	return 0 <= age && age < readerSettle && time.Since(c.differs) < patience*readerSettle
}
