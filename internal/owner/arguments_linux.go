package owner

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/port-exporter/port_exporter/internal/beside"
)

// Arguments returns a function that reads the command line of a process; nil if that cannot
// be read. The kernel may wait for the memory of the process, so the reads have a limit.
func Arguments(procfs string) func(ctx context.Context, pid int32) []string {
	calls := beside.New(beside.Limits{All: 4}, nil)
	return func(ctx context.Context, pid int32) []string {
		path := filepath.Join(procfs, strconv.Itoa(int(pid)), "cmdline")
		text, err := beside.Do(ctx, calls, beside.Key{Name: path}, func() ([]byte, error) { return readCommandLine(path) })
		if err != nil || len(text) == 0 {
			return nil
		}
		return strings.Split(string(bytes.TrimSuffix(text, []byte{0})), "\x00")
	}
}

// readCommandLine reads the beginning of a file cmdline, and beside an error what is there.
func readCommandLine(path string) ([]byte, error) {
	const enough = 4096 // bytes
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, enough))
}
