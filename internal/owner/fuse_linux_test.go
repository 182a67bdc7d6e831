package owner

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// fuse is a file system of one file, "program", whose server may stop answering
// (fuse(4), include/uapi/linux/fuse.h).
type fuse struct {
	device  *os.File
	content []byte
	// silent: no name is looked up any more.
	silent  atomic.Bool
	lookups atomic.Int32 // while silent

	mu   sync.Mutex
	held [][]byte // requests that wait for an answer
}

// mountFUSE mounts one, in the mount namespace of the test.
func mountFUSE(t *testing.T, dir string, content []byte) *fuse {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("SKIP-FUSE: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("test", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		t.Skipf("SKIP-FUSE: mount: %v", err)
	}
	f := &fuse{device: os.NewFile(uintptr(fd), "fuse"), content: content}
	var serving sync.WaitGroup
	serving.Go(f.serve)
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		f.abort()
		serving.Wait()
		_ = f.device.Close()
	})
	return f
}

// abort answers every request that waits, now and later, with an error.
func (f *fuse) abort() {
	f.silent.Store(false)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, request := range f.held {
		f.answer(request)
	}
	f.held = nil
}

// serve ends when the file system is not mounted any more.
func (f *fuse) serve() {
	buf := make([]byte, 1<<20)
	for {
		n, err := f.device.Read(buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return
		}
		request := append([]byte(nil), buf[:n]...)
		const lookup = 1
		if f.silent.Load() && binary.NativeEndian.Uint32(request[4:]) == lookup {
			f.lookups.Add(1)
			f.mu.Lock()
			f.held = append(f.held, request)
			f.mu.Unlock()
			continue
		}
		f.answer(request)
	}
}

// answer writes the answer to a request: struct fuse_in_header, and what the
// operation has behind it.
func (f *fuse) answer(request []byte) {
	const forget, batchForget = 2, 42 // have no answer
	opcode := binary.NativeEndian.Uint32(request[4:])
	if opcode == forget || opcode == batchForget {
		return
	}
	body, errno := f.reply(opcode, binary.NativeEndian.Uint64(request[16:]), request[40:])
	out := make([]byte, 16, 16+len(body))
	binary.NativeEndian.PutUint32(out, uint32(16+len(body)))
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(errno)))
	copy(out[8:16], request[8:16]) // unique
	_, _ = f.device.Write(append(out, body...))
}

func (f *fuse) reply(opcode uint32, node uint64, body []byte) ([]byte, unix.Errno) {
	switch opcode {
	case 26: // INIT
		out := make([]byte, 64)
		binary.NativeEndian.PutUint32(out, 7)
		binary.NativeEndian.PutUint32(out[4:], 31)
		binary.NativeEndian.PutUint32(out[20:], 1<<17) // max_write
		return out, 0
	case 1: // LOOKUP: the name may be forgotten immediately
		if string(body) != "program\x00" {
			return nil, unix.ENOENT
		}
		entry := make([]byte, 40)
		binary.NativeEndian.PutUint64(entry, 2)
		return slices.Concat(entry, f.attributes(2)), 0
	case 3: // GETATTR
		return append(make([]byte, 16), f.attributes(node)...), 0
	case 14, 27: // OPEN, OPENDIR
		return make([]byte, 16), 0
	case 15: // READ
		offset, size := binary.NativeEndian.Uint64(body[8:]), uint64(binary.NativeEndian.Uint32(body[16:]))
		offset = min(offset, uint64(len(f.content)))
		return f.content[offset:min(offset+size, uint64(len(f.content)))], 0
	case 10, 18, 25, 29: // UNLINK, RELEASE, FLUSH, RELEASEDIR
		return nil, 0
	default:
		return nil, unix.ENOSYS
	}
}

// attributes returns a struct fuse_attr.
func (f *fuse) attributes(node uint64) []byte {
	out := make([]byte, 88)
	binary.NativeEndian.PutUint64(out, node)
	mode := uint32(unix.S_IFDIR | 0o755)
	if node == 2 {
		mode = unix.S_IFREG | 0o755
		binary.NativeEndian.PutUint64(out[8:], uint64(len(f.content)))
	}
	binary.NativeEndian.PutUint32(out[60:], mode)
	binary.NativeEndian.PutUint32(out[64:], 1) // links
	return out
}

// privateProc mounts another /proc in the mount namespace of the test, and returns
// where the test's thread and where other goroutines see it.
func privateProc(t *testing.T, root string) (here, there string) {
	t.Helper()
	here = t.TempDir()
	if err := unix.Mount("proc", here, "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(here, unix.MNT_DETACH) })
	return here, root + here
}
