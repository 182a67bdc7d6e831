package procnet

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// file is one file below net/.
type file struct {
	name     string
	protocol socket.Protocol
	family   socket.Family
}

// files are in the order in which they are read.
var files = [...]file{
	{"tcp", socket.TCP, socket.IPv4},
	{"tcp6", socket.TCP, socket.IPv6},
	{"udp", socket.UDP, socket.IPv4},
	{"udp6", socket.UDP, socket.IPv6},
	{"udplite", socket.UDPLite, socket.IPv4},
	{"udplite6", socket.UDPLite, socket.IPv6},
}

// Source reads the files below procfs. It holds no descriptor between reads
// and is safe for concurrent use.
type Source struct{ procfs string }

// New returns a source that reads below the mount point of a procfs, /proc.
// The error says which file cannot be read.
func New(procfs string) (*Source, error) {
	s := &Source{procfs: procfs}
	f, err := s.open(files[0])
	if err != nil {
		return nil, fmt.Errorf("procnet: %w", err)
	}
	return s, f.Close()
}

// Sockets implements [socket.Source]. The files are opened anew for each read:
// seeking them has lost rows on several kernels. A file that is missing, as
// those of IPv6 are where it is off, has no sockets.
func (s *Source) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		lines := bufio.NewReaderSize(nil, 64<<10)
		for _, f := range files {
			if !wanted(f.protocol, want) {
				continue
			}
			r, err := s.open(f)
			if errors.Is(err, fs.ErrNotExist) && f != files[0] {
				continue
			}
			if err != nil {
				yield(nil, fmt.Errorf("procnet: %w", err))
				return
			}
			lines.Reset(r)
			stopped, err := readLines(ctx, lines, f, want, yield)
			_ = r.Close()
			if err != nil {
				yield(nil, fmt.Errorf("procnet: read %s: %w", f.name, err))
				return
			}
			if stopped {
				return
			}
		}
	}
}

func (s *Source) open(f file) (*os.File, error) {
	return os.Open(filepath.Join(s.procfs, "net", f.name))
}

func wanted(p socket.Protocol, want socket.StateSet) bool {
	if p == socket.TCP {
		return want&socket.TCPStates != 0
	}
	return want&socket.UDPStates != 0
}

// readLines yields the sockets of one file. A line that cannot be parsed, or
// is longer than any socket's, is yielded as malformed.
func readLines(ctx context.Context, lines *bufio.Reader, f file, want socket.StateSet, yield func(*socket.Socket, error) bool) (stopped bool, err error) {
	const linesPerCheck = 256
	var s socket.Socket
	for n := 0; ; n++ {
		if n%linesPerCheck == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		line, err := readLine(lines)
		if n == 0 && !isHeader(line) {
			return false, cmp.Or(notEOF(err), errNoHeader)
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil && !errors.Is(err, socket.ErrMalformed) {
			return false, err
		}
		if n == 0 {
			continue
		}
		if err == nil {
			err = parseLine(line, f.protocol, f.family, &s)
		}
		if err == nil && !want.Has(s.State) {
			continue
		}
		if !yield(&s, err) {
			return true, nil
		}
	}
}

// errNoHeader is about a file without the header that Linux always writes: it says
// nothing of the sockets. An emulated /proc may have an empty file.
var errNoHeader = errors.New("missing header line\nhint: WSL 1 does not list its sockets")

func isHeader(line []byte) bool { return bytes.Contains(line, []byte("local_address")) }

// notEOF returns the error of a read, if it is another than the end of the file or
// a line that is too long.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, socket.ErrMalformed) {
		return nil
	}
	return err
}

// readLine returns the next line without its end, valid until the next call.
// The last line may lack its newline.
func readLine(lines *bufio.Reader) ([]byte, error) {
	line, err := lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, errLine
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	return bytes.TrimRight(line, "\r\n"), err
}
