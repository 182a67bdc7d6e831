package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/panics"
)

// Worker runs functions in other network namespaces, one at a time, on a thread of its
// own. That is never the main thread: Go parks that one instead of ending it
// (golang/go#34031), and /proc/self/net is that of the main thread. Its zero value is
// ready. It is safe for concurrent use.
type Worker struct {
	start sync.Once
	jobs  chan job
}

// job is a function to run in the namespace at a path.
type job struct {
	path string
	f    func(inode uint64) error
	done chan error
}

// Do runs f, with the inode of the namespace, in the namespace at a path:
// /proc/4711/ns/net, /run/netns/blue. f must not wait, nor leave anything that keeps the
// namespace alive. When Do returns, the thread has left the namespace. The error is
// [ErrGone] if there is no namespace at the path, else that of entering or of f.
func (w *Worker) Do(ctx context.Context, path string, f func(inode uint64) error) error {
	w.start.Do(func() {
		w.jobs = make(chan job)
		go w.serve(make(chan struct{}))
	})
	j := job{path: path, f: f, done: make(chan error, 1)}
	select {
	case w.jobs <- j:
		return <-j.done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// doAny is Do at the first of some paths at which there is the namespace of an inode. It is
// not gone if one of the paths cannot be opened: that says nothing.
func (w *Worker) doAny(ctx context.Context, inode uint64, paths []string, f func(path string) error) error {
	refused := ErrGone
	for _, path := range paths {
		err := w.Do(ctx, path, func(at uint64) error {
			if at != inode {
				return ErrGone
			}
			return f(path)
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, ErrGone) {
			refused = err
		}
	}
	return refused
}

// serve runs jobs, and closes ready when it has its thread. If it cannot return to its
// own namespace, its thread ends with it, because it is locked, and another one serves.
func (w *Worker) serve(ready chan<- struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		other := make(chan struct{})
		go w.serve(other)
		<-other // has a thread that is not this one
		runtime.UnlockOSThread()
		close(ready)
		return
	}
	close(ready)
	home, _, homeErr := openNamespace("/proc/thread-self/ns/net")
	for j := range w.jobs {
		if homeErr != nil {
			j.done <- fmt.Errorf("own network namespace: %w", homeErr)
			continue
		}
		err := enter(j)
		if unix.Setns(home, unix.CLONE_NEWNET) != nil {
			_ = unix.Close(home)
			go w.serve(make(chan struct{}))
			j.done <- err
			return
		}
		j.done <- err
	}
}

// enter runs a job in its namespace, which the thread is in afterwards.
func enter(j job) (err error) {
	fd, inode, err := openNamespace(j.path)
	if err != nil {
		return err
	}
	err = unix.Setns(fd, unix.CLONE_NEWNET)
	_ = unix.Close(fd)
	switch {
	case errors.Is(err, unix.EINVAL): // another kind of namespace
		return ErrGone
	case err != nil:
		return &fs.PathError{Op: "setns", Path: j.path, Err: err}
	}
	defer func() {
		if panicked := panics.Recovered(recover()); panicked != nil {
			err = panicked
		}
	}()
	return j.f(inode)
}

// openNamespace opens a file of nsfs. What is no such file, as a pipe or what a mount
// was removed from, is not waited for.
func openNamespace(path string) (fd int, inode uint64, err error) {
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
		return -1, 0, ErrGone
	case err != nil:
		return -1, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var system unix.Statfs_t
	var file unix.Stat_t
	if unix.Fstatfs(fd, &system) != nil || system.Type != unix.NSFS_MAGIC || unix.Fstat(fd, &file) != nil {
		_ = unix.Close(fd)
		return -1, 0, ErrGone
	}
	return fd, file.Ino, nil
}
