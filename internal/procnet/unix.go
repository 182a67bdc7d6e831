package procnet

import (
	"bytes"
	"errors"
	"io/fs"
	"math"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// errNoListener is about a line of a socket that does not listen.
var errNoListener = errors.New("no listener")

// Unix returns the listeners in the file net/unix below a procfs, up to a limit. It
// has neither their queues nor the user who made them. A path may hold a newline: then
// the file has a line that is none, or that looks like another socket. The error is
// errors.ErrUnsupported where the file is missing.
func Unix(procfs string, limit int) (read socket.PortlessRead, err error) {
	err = readPortless(procfs, "unix", limit, &read, parseUnix)
	if errors.Is(err, fs.ErrNotExist) {
		return read, errors.ErrUnsupported
	}
	return read, err
}

// parseUnix reads a line of net/unix, as unix_seq_show of net/unix/af_unix.c writes
// it. The name goes to the end of the line, blanks included.
func parseUnix(line []byte) (socket.Listener, error) {
	const (
		columnFlags, columnInodeOfUnix, columnName = 3, 6, 7
		acceptsConnections                         = 1 << 16 // __SO_ACCEPTCON, include/linux/net.h
	)
	var columns [maxColumns][]byte
	count := split(line, &columns)
	if count < columnName || !bytes.HasSuffix(columns[0], []byte(":")) {
		return socket.Listener{}, errLine
	}
	flags, ok1 := hex(columns[columnFlags], math.MaxUint32)
	inode, ok2 := decimal(columns[columnInodeOfUnix], math.MaxUint64)
	if !ok1 || !ok2 {
		return socket.Listener{}, errLine
	}
	if flags&acceptsConnections == 0 {
		return socket.Listener{}, errNoListener
	}
	name := behind(line, columnName)
	if len(name) == 0 { // only a socket with a name can listen
		return socket.Listener{}, errLine
	}
	return socket.NewUnix(nameOf(name), socket.Member{Inode: inode}), nil
}

// behind returns what follows some columns and a blank.
func behind(line []byte, columns int) []byte {
	for range columns {
		_, line, _ = bytes.Cut(bytes.TrimLeft(line, " "), []byte(" "))
	}
	return line
}

// nameOf returns the name as the file has it, with @ for each NUL. A path that begins
// with @ cannot be known from an abstract name.
func nameOf(name []byte) socket.UnixName {
	if name[0] != '@' {
		return socket.UnixName{Path: string(name)}
	}
	return socket.UnixName{Path: "@" + string(bytes.TrimRight(name[1:], "@")), Abstract: true}
}
