package owner

import (
	"bytes"
	"context"
	"encoding/binary"
	"iter"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/panics"
)

// groupsPatience is how long a scrape waits for a walk.
const groupsPatience = time.Second

// groupWalk returns what finds the paths of cgroups, or nil without cgroup v2.
func groupWalk(procfs string, logger *slog.Logger) func(context.Context, map[uint64]bool) (map[uint64]string, bool) {
	panicked := func(err *panics.Error) { panics.Log(logger, "search for cgroups", err) }
	mount := newCgroups(procfs, panicked).mount
	if mount == "" {
		return nil
	}
	calls := beside.New(beside.Limits{All: 1, Patience: groupsPatience}, panicked)
	return func(ctx context.Context, wanted map[uint64]bool) (map[uint64]string, bool) {
		return attempt(ctx, calls, beside.Key{Name: "walk"}, func() map[uint64]string {
			paths := map[uint64]string{}
			walkCgroups(mount, func(id uint64, path string) bool {
				if wanted[id] {
					paths[id] = path
				}
				return len(paths) < len(wanted)
			})
			return paths
		})
	}
}

// maxWalked bounds the cgroups that a walk looks at.
const maxWalked = 100_000

// walkCgroups calls visit with the ID of each cgroup below a mount point, and its path
// from there, parents first, until that returns false. The ID is the inode of the
// directory (kernfs, fs/kernfs/dir.c). Each directory has some 60 files of the kernel,
// so none without cgroups below it is read: its link count is 2.
func walkCgroups(mount string, visit func(id uint64, path string) bool) {
	var root unix.Stat_t
	if unix.Stat(mount, &root) != nil || !visit(root.Ino, "") {
		return
	}
	const leafLinks = 2 // itself and "."
	walked, buf := 0, make([]byte, 16<<10)
	for queue := []string{""}; len(queue) > 0; queue = queue[1:] {
		dir := queue[0]
		fd, err := unix.Open(mount+dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // removed meanwhile
		}
		for name, id := range subdirectories(fd, buf) {
			path := dir + "/" + name
			if walked++; walked >= maxWalked || !visit(id, path) {
				_ = unix.Close(fd)
				return
			}
			var stat unix.Stat_t
			if unix.Fstatat(fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW) == nil && stat.Nlink > leafLinks && stat.Dev == root.Dev {
				queue = append(queue, path)
			}
		}
		_ = unix.Close(fd)
	}
}

// subdirectories yields the directories in an open directory, with their inodes.
func subdirectories(fd int, buf []byte) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for {
			n, err := unix.Getdents(fd, buf)
			if err != nil || n <= 0 {
				return
			}
			for name, id := range parseDirectories(buf[:n]) {
				if !yield(name, id) {
					return
				}
			}
		}
	}
}

// parseDirectories yields the directories among entries of struct linux_dirent64
// (getdents64(2)), but those of the parent and the directory itself.
func parseDirectories(b []byte) iter.Seq2[string, uint64] {
	const lengthAt, typeAt, nameAt = 16, 18, 19
	return func(yield func(string, uint64) bool) {
		for len(b) > nameAt {
			length := int(binary.NativeEndian.Uint16(b[lengthAt:]))
			if length <= nameAt || length > len(b) {
				return
			}
			entry := b[:length]
			b = b[length:]
			if entry[typeAt] != unix.DT_DIR {
				continue
			}
			name, _, _ := bytes.Cut(entry[nameAt:], []byte{0})
			if s := string(name); s != "." && s != ".." && s != "" && !yield(s, binary.NativeEndian.Uint64(entry)) {
				return
			}
		}
	}
}
