package owner

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Names implements [Processes]. Users have the names that they have on the host: by
// --path.rootfs, else by the root of the first process where that is not ours, as
// in a container.
func (h *linuxHost) Names() Names {
	n := Names{Look: h.userName}
	switch {
	case h.inUserNamespace():
		n.Sockets = NoUIDs
	case h.rootfs == "" && h.inPIDNamespace():
		n.Sockets = OtherUIDs
	}
	return n
}

// userName returns the name of a user of the host. The user 0 is root wherever
// the kernel says so, whatever a file calls it.
func (h *linuxHost) userName(uid uint32) (string, error) {
	if uid == 0 {
		return "root", nil
	}
	root := h.rootOfNames()
	name, err := systemNameOr(root, uid)
	var unknown user.UnknownUserIdError
	if err == nil || !errors.As(err, &unknown) && !isAbsent(err) {
		return name, err
	}
	return nameInUserdb(filepath.Join(cmp.Or(root, "/"), userdbDir), uid)
}

// systemNameOr returns the name that the passwd file below a root has for a user,
// or that of the system's own look-up where the root is ours.
func systemNameOr(root string, uid uint32) (string, error) {
	if root == "" {
		return systemName(uid)
	}
	file, err := openBelow(root, "etc/passwd")
	if err != nil {
		return "", err
	}
	defer file.Close()
	return nameInPasswd(file, uid)
}

// rootOfNames returns where the host's files are: nothing where its root is ours.
func (h *linuxHost) rootOfNames() string {
	if h.rootfs != "" {
		return h.rootfs
	}
	first, err := directoryOf(h.path(initPID, ""), "/")
	if err != nil || first == "" {
		return ""
	}
	if own, err := directoryOf(filepath.Join(h.procfs, "self"), "/"); err != nil || own == first {
		return ""
	}
	return h.path(initPID, "root")
}

// openBelow opens a regular file below a root that is not ours: links in there lead
// nowhere else, and what is no file, as a named pipe, is not waited for.
func openBelow(root, name string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_IN_ROOT})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.6, or filtered
		fd, err = unix.Openat(dir, name, flags|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(root, name), Err: err}
	}
	file := os.NewFile(uintptr(fd), filepath.Join(root, name))
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = file.Close()
		return nil, errors.Join(err, errNoFile)
	}
	return file, nil
}

var errNoFile = errors.New("not a regular file")

// livesElsewhere reports whether the user ids of a process are not those of the
// host's users: it has another user namespace, or another mount namespace whose
// root is not the host's. A process that only changed its root (chroot(2)) is the
// host's, and so is a service of the host whose unit gives it another root.
func (h *linuxHost) livesElsewhere(dir, cgroup string) bool {
	users, err := os.Readlink(filepath.Join(dir, "ns/user"))
	own, ownErr := os.Readlink(filepath.Join(h.procfs, "self/ns/user"))
	known := err == nil && ownErr == nil
	if known && users != own {
		return true
	}
	hosts := h.hostRoots()
	if len(hosts) == 0 {
		return false
	}
	if h.mountsOfHost(dir) || known && isHostService(cgroup) {
		return false
	}
	root, err := directoryOf(dir, "/")
	return err == nil && !slices.Contains(hosts, root)
}

// isHostService reports whether a cgroup is that of a service of the host, outside
// of any container, and of any systemd in there. Its user is one of the host's
// whatever its root is: systemd looks User= up before it sets RootDirectory= or
// RootImage= (systemd.exec(5)).
func isHostService(cgroup string) bool {
	unit, container := unitAndContainer(cgroup)
	units := 0
	for _, part := range cgroupParts(cgroup) {
		if isUnit(part) {
			units++
		}
	}
	return units == 1 && container == "" && strings.HasSuffix(unit, ".service") && !isUserManager(unit)
}

// mountsOfHost reports whether a process is in the mount namespace of the first
// process, or of this one where that has the same root. Then its root may be any
// directory of the host's.
func (h *linuxHost) mountsOfHost(dir string) bool {
	mounts, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
	if err != nil {
		return false
	}
	first, err := os.Readlink(h.path(initPID, "ns/mnt"))
	if err != nil && h.rootOfNames() == "" { // it may not be read
		first, err = os.Readlink(filepath.Join(h.procfs, "self/ns/mnt"))
	}
	return err == nil && mounts == first
}

// hostRoots returns the directories that are the host's root, as [mountAt] does:
// that of the first process, if that is the host's, and --path.rootfs, of which
// only a part may be the host's.
func (h *linuxHost) hostRoots() []string {
	var roots []string
	add := func(process, root string) {
		if directory, err := directoryOf(process, root); err == nil && directory != "" {
			roots = append(roots, directory)
		}
	}
	if h.rootfs == "" || !h.inPIDNamespace() {
		add(h.path(initPID, ""), "/")
	}
	if h.rootfs != "" {
		add(filepath.Join(h.procfs, "self"), h.rootfs)
	}
	return roots
}

// directoryOf returns what a directory is in the mount namespace of a process, as
// [mountAt] does. It asks no file system.
func directoryOf(process, dir string) (string, error) {
	const limit = 4 << 20 // some 20,000 mounts
	file, err := os.Open(filepath.Join(process, "mountinfo"))
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return "", err
	}
	return mountAt(string(text), path.Clean(dir)), nil
}

// mountAt returns what a directory is, from a mountinfo (proc_pid_mountinfo(5)):
// the device, and the directory in its file system. Two processes for which / is
// the same have the same root. It is empty where nothing is mounted there, as in a
// chroot(2).
func mountAt(mountinfo, dir string) string {
	var at, found string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescapeOctal(fields[4])
		rest, below := strings.CutPrefix(dir, strings.TrimSuffix(point, "/"))
		if !below || rest != "" && rest[0] != '/' || len(point) < len(at) || point == at && point == "/" {
			continue
		}
		at = point
		found = fields[2] + " " + path.Join(unescapeOctal(fields[3]), rest)
	}
	return found
}
