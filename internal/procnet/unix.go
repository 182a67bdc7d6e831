package procnet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// UnixListeners counts listening unix-domain sockets by the kind of their name
// (unix(7)).
type UnixListeners struct{ Path, Abstract int }

// ReadUnixListeners counts them in the file net/unix below a procfs.
func ReadUnixListeners(procfs string) (UnixListeners, error) {
	f, err := os.Open(filepath.Join(procfs, "net/unix"))
	if err != nil {
		return UnixListeners{}, fmt.Errorf("procnet: %w", err)
	}
	defer f.Close()
	counts, err := countUnixListeners(f)
	if err != nil {
		return UnixListeners{}, fmt.Errorf("procnet: read unix: %w", err)
	}
	return counts, nil
}

// countUnixListeners skips lines that are not in the form of the file: a
// path may hold a newline.
func countUnixListeners(r io.Reader) (UnixListeners, error) {
	const (
		columnFlags, columnName = 3, 7
		acceptsConnections      = 1 << 16 // __SO_ACCEPTCON, include/linux/net.h
	)
	var counts UnixListeners
	var columns [maxColumns][]byte
	lines := bufio.NewReaderSize(r, 4<<10)
	for {
		line, err := readLine(lines)
		switch {
		case errors.Is(err, io.EOF):
			return counts, nil
		case errors.Is(err, errLine):
			continue
		case err != nil:
			return UnixListeners{}, err
		}
		if split(line, &columns) <= columnName {
			continue
		}
		flags, ok := hex(columns[columnFlags], 1<<32-1)
		if !ok || flags&acceptsConnections == 0 {
			continue
		}
		if bytes.HasPrefix(columns[columnName], []byte("@")) {
			counts.Abstract++
		} else {
			counts.Path++
		}
	}
}
