// Package files reads files that others write: only regular ones, only up to a
// size, and none while it is being written.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Rules say what may be read, and when.
type Rules struct {
	// Limit is the largest size, in bytes; zero is [DefaultLimit].
	Limit int64
	// Pipes admits pipes, such as /dev/stdin and a shell's <(command). Reading one
	// may last for ever.
	Pipes bool
	// Settle is how long a file must have been left alone before it is read; zero
	// does not wait.
	Settle time.Duration
}

// DefaultLimit is far above the size of any configuration: 100,000 targets are
// 6 MB.
const DefaultLimit = 16 << 20

// patience is how long a file may go on changing, in units of Settle.
const patience = 5

// recheck is how long a file is left alone that changed while it was read.
const recheck = 50 * time.Millisecond

// Read returns what is in a file. It looks at the file before and after, and
// reads it again when it changed meanwhile. It never waits for a pipe's writer
// unless the rules admit pipes; a file system that does not answer it waits for:
// see package beside. The error is a [*fs.PathError].
func (r Rules) Read(ctx context.Context, path string) ([]byte, error) {
	deadline := time.Now().Add(patience * max(r.Settle, time.Second))
	var last look
	for {
		text, wait, err := r.attempt(path, &last)
		if err != nil || wait == 0 {
			return text, err
		}
		if time.Now().After(deadline) {
			return nil, &fs.PathError{Op: "read", Path: path, Err: errChanging}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, &fs.PathError{Op: "read", Path: path, Err: context.Cause(ctx)}
		}
	}
}

var errChanging = errors.New("file changed during the read\nhint: replace the file in one step: write another file and rename it")

// attempt reads the file once. It returns how long to wait before the next
// attempt, zero when this one counts.
func (r Rules) attempt(path string, last *look) (text []byte, wait time.Duration, err error) {
	f, before, err := r.open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if wait := last.unsettled(before, r.Settle); wait > 0 {
		return nil, wait, nil
	}
	limit := r.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	tooLarge := &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is larger than %d bytes", limit)}
	if before.Mode().IsRegular() && before.Size() > limit {
		return nil, 0, tooLarge
	}
	text, err = io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, 0, err
	case int64(len(text)) > limit:
		return nil, 0, tooLarge
	case before.Mode().IsRegular() && r.changed(f, before, path, len(text)):
		return nil, recheck, nil
	}
	return text, 0, nil
}

// look is what a file was like when an earlier attempt saw it first so.
type look struct {
	info fs.FileInfo
	at   time.Time
}

// unsettled returns how long to wait until a file has been left alone for some time. The
// clock of a file server may be ahead: a time in the future says only whether the file
// was changed since the last look.
func (l *look) unsettled(now fs.FileInfo, settle time.Duration) time.Duration {
	if settle == 0 || !now.Mode().IsRegular() {
		return 0
	}
	if age := time.Since(now.ModTime()); age >= 0 {
		return settle - age
	}
	if l.info == nil || !os.SameFile(l.info, now) || l.info.Size() != now.Size() || !l.info.ModTime().Equal(now.ModTime()) {
		*l = look{now, time.Now()}
	}
	return settle - time.Since(l.at)
}

// changed reports whether the file is not as it was before it was read, or has
// been replaced.
func (r Rules) changed(f *os.File, before fs.FileInfo, path string, read int) bool {
	after, err := f.Stat()
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return true
	}
	if size := after.Size(); size > 0 && size != int64(read) { // files of the kernel have no size
		return true
	}
	named, err := os.Stat(path)
	return err != nil || !os.SameFile(named, after)
}

// open opens a file without waiting for whoever writes to it.
func (r Rules) open(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(path) // to open a device may set it off
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: failed.Err}
	}
	if err := r.admits(path, info); err != nil {
		return nil, nil, err
	}
	flags := os.O_RDONLY | withoutWaiting
	if info.Mode()&fs.ModeNamedPipe != 0 {
		flags = os.O_RDONLY // it waits for a writer, else it would find an end immediately
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = r.admits(path, info)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// admits returns why something is not read.
func (r Rules) admits(path string, info fs.FileInfo) error {
	what := ""
	switch mode := info.Mode(); {
	case mode.IsRegular(), isNull(info):
		return nil
	case r.Pipes && mode&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0: // a terminal too: /dev/stdin
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	default:
		what = "a socket"
	}
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is %s, not a regular file", what)}
}

func isNull(info fs.FileInfo) bool {
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(null, info)
}

// Check reports whether a file could be read, without reading it.
func Check(path string) error {
	f, _, err := Rules{}.open(path)
	if err != nil {
		return err
	}
	return f.Close()
}
