package owner

import (
	"bufio"
	"bytes"
	"io"
	"os/user"
	"strconv"
)

// UIDs says what the user id of a socket is whose process is not known.
type UIDs uint8

// The kinds of user ids.
const (
	// HostUIDs are those of users whose names are known.
	HostUIDs UIDs = iota
	// OtherUIDs may be those of users elsewhere: they have no names here.
	OtherUIDs
	// NoUIDs are made up by the kernel, as those of another user namespace are
	// (user_namespaces(7)).
	NoUIDs
)

// Names is how users are named.
type Names struct {
	// Look returns the name of a user. It may block: on a file, a directory service,
	// systemd. It may be called by several goroutines. The error is a
	// [user.UnknownUserIdError] where the user has no name, else what went wrong.
	Look func(uid uint32) (string, error)
	// Sockets says what the user id of a socket is whose process is not known.
	Sockets UIDs
}

// systemName is that of the system's own look-up: the name service in a build with
// cgo, else /etc/passwd (os/user).
func systemName(uid uint32) (string, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", err
	}
	return u.Username, nil
}

// maxPasswd is how much of a passwd file is read, in bytes: some 100,000 users.
const maxPasswd = 8 << 20

// nameInPasswd returns the name of a user in a file as of passwd(5), the first one
// where there are several.
func nameInPasswd(file io.Reader, uid uint32) (string, error) {
	const longestLine, longestName = 64 << 10, 256
	lines := bufio.NewScanner(io.LimitReader(file, maxPasswd))
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		fields := bytes.SplitN(lines.Bytes(), []byte(":"), 4)
		if len(fields) < 4 || len(fields[0]) == 0 || len(fields[0]) > longestName || bytes.IndexByte([]byte("#+-"), fields[0][0]) >= 0 {
			continue
		}
		if id, err := strconv.ParseUint(string(fields[2]), 10, 32); err == nil && uint32(id) == uid {
			return string(fields[0]), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", user.UnknownUserIdError(uid)
}
