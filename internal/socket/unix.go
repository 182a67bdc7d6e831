package socket

import (
	"bytes"
	"cmp"
	"strings"
)

// UnixName is the name to which a unix-domain socket is bound (unix(7)). It may hold
// any bytes but NUL.
type UnixName struct {
	// Path is that of a file, as the program wrote it: it may be relative, or of
	// another mount namespace, and the file may be gone. An abstract name begins
	// with @, as ss(8) writes it; a NUL in it is @ as well.
	Path     string
	Abstract bool
}

// KernelUnixName returns the name of the bytes in sun_path. Programs that bind the
// whole of struct sockaddr_un have NULs behind an abstract name; they are left out.
func KernelUnixName(sunPath []byte) UnixName {
	if len(sunPath) == 0 || sunPath[0] != 0 {
		path, _, _ := bytes.Cut(sunPath, []byte{0})
		return UnixName{Path: string(path)}
	}
	name := bytes.TrimRight(sunPath[1:], "\x00")
	return UnixName{Path: "@" + string(bytes.ReplaceAll(name, []byte{0}, []byte{'@'})), Abstract: true}
}

// Kind returns the kind of the name as it stands in labels.
func (n UnixName) Kind() string {
	if n.Abstract {
		return "abstract"
	}
	return "path"
}

// Compare orders names: paths first.
func (n UnixName) Compare(other UnixName) int {
	return cmp.Or(cmp.Compare(isTrue(n.Abstract), isTrue(other.Abstract)), cmp.Compare(n.Path, other.Path))
}

// NewUnix returns the listener of one socket. Only this host can connect to it.
func NewUnix(name UnixName, m Member) Listener {
	return Listener{
		ListenerID: ListenerID{Protocol: Unix}, Unix: name, Scope: ScopeLoopback, Sockets: 1, Members: []Member{m},
	}
}

// SetQueue gives the listener of one socket its accept queue. The kernel takes one
// connection more than the limit, as of TCP (unix_recvq_full in net/unix/af_unix.c).
func (l *Listener) SetQueue(q AcceptQueue) {
	l.Known |= KnowsQueues | KnowsAcceptQueueLimit
	l.AcceptQueue, l.AcceptQueueLimit = uint64(q.Length), uint64(q.Limit)
	l.Full, l.Worst = isTrue(q.isFull()), q
}

// FoldPath returns a path with * for each part that looks as if the program, or the
// kernel, had made it up: agent.4711 in /tmp/ssh-XXXXXXu5TnBp, the UUID of a machine,
// 1234abcd. Services with a number in their name, as .s.PGSQL.5432, keep it.
func FoldPath(path string) string {
	if isAutobound(path) {
		return "@*"
	}
	var b strings.Builder
	folded := false
	for i := 0; i < len(path); {
		n := runLength(path[i:])
		switch {
		case n == 0:
			b.WriteByte(path[i])
			i++
			continue
		case isUUID(path[i:]):
			n = uuidLength
		case isMadeUp(path[i:i+n]) || allDigits(path[i:i+n]) && (folded || isWholeName(path, i, n)):
		default:
			b.WriteString(path[i : i+n])
			i += n
			continue
		}
		b.WriteByte('*')
		folded = true
		i += n
	}
	if !folded {
		return path
	}
	return b.String()
}

// isAutobound reports whether the kernel chose an abstract name: five hexadecimal
// digits (unix_autobind in net/unix/af_unix.c).
func isAutobound(path string) bool {
	return len(path) == 6 && path[0] == '@' && strings.Trim(path[1:], "0123456789abcdef") == ""
}

// runLength returns how many letters and digits a text begins with.
func runLength(s string) (n int) {
	for n < len(s) && (isLetter(s[n]) || isDigit(s[n])) {
		n++
	}
	return n
}

const uuidLength = 36

// isUUID reports whether a text begins with a UUID (RFC 9562).
func isUUID(s string) bool {
	if len(s) < uuidLength || runLength(s[uuidLength:]) > 0 {
		return false
	}
	for i := range uuidLength {
		isDash := i == 8 || i == 13 || i == 18 || i == 23
		if isDash != (s[i] == '-') || !isDash && !isHex(s[i]) {
			return false
		}
	}
	return true
}

// isMadeUp reports whether letters and digits look random: a long number, eight
// hexadecimal digits and more, or capitals, small letters and digits without an
// order, as mkdtemp(3) makes them, perhaps behind tmp.
func isMadeUp(run string) bool {
	var digits, upper, lower, hex, changes int
	for i := range len(run) {
		c := run[i]
		digits += isTrue(isDigit(c))
		upper += isTrue(c >= 'A' && c <= 'Z')
		lower += isTrue(c >= 'a' && c <= 'z')
		hex += isTrue(isHex(c))
		changes += isTrue(i > 0 && class(c) != class(run[i-1]))
	}
	switch n := len(run); {
	case n < 6:
		return false
	case digits == n:
		return true
	case hex == n && n >= 8 && digits > 0:
		return true
	default:
		return upper > 0 && lower > 0 && 2*changes >= n
	}
}

// isWholeName reports whether the last name of a path is a number of three digits and
// more: that of a process, as in /tmp/.ICE-unix/1234.
func isWholeName(path string, at, n int) bool {
	return n >= 3 && at+n == len(path) && at > 0 && path[at-1] == '/'
}

func allDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

func isHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

// class is the same for characters of one kind.
func class(c byte) byte {
	switch {
	case isDigit(c):
		return '0'
	case c >= 'a':
		return 'a'
	default:
		return 'A'
	}
}
