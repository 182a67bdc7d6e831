package files

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/beside"
)

// NewCalls returns calls for [Beside]: three of files that hang may be under way, then
// ever fewer more, and other files are read immediately.
func NewCalls() *beside.Calls {
	return beside.New(beside.Limits{All: 64, Each: 3, Retry: time.Minute}, nil)
}

// Beside returns what f returns, which reads the files at the paths; see [beside.Do].
// Calls that do not return count against the files to which the paths lead, as they are
// now: once a link leads elsewhere, or a file was changed, there is room again.
func Beside[T any](ctx context.Context, calls *beside.Calls, f func() (T, error), paths ...string) (T, error) {
	which, err := beside.Do(ctx, calls, beside.Key{Of: strings.Join(paths, "\n")}, func() (string, error) { return which(paths), nil })
	if err != nil {
		return *new(T), err
	}
	return beside.Do(ctx, calls, beside.Key{Of: which}, f)
}

// which returns a text that differs once one of the files is another one.
func which(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		target, _ := filepath.EvalSymlinks(path) // reading it says what is wrong
		fmt.Fprintf(&b, "%s -> %s", path, target)
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintf(&b, " %d bytes of %d", info.Size(), info.ModTime().UnixNano())
		}
		b.WriteByte('\n')
	}
	return b.String()
}
