package procnet

import (
	"errors"
	"testing"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// FuzzUnixLine reads any line of net/unix: a listener with a name, or an error.
func FuzzUnixLine(f *testing.F) {
	for _, line := range []string{
		unixHeader,
		"0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/x",
		"0000000000000000: 00000002 00000000 00010000 0001 01   345 /run/x y",
		"ffff8881054b4c00: 00000002 00000000 00010000 0005 01 27 @/tmp/.X11-unix/X0",
		"0000000000000000: 00000003 00000000 00000000 0001 03 104",
		"0: 2 0 00010000 0001 01 1 @", "b 00010000 \x00",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		l, err := parseUnix(line)
		if err == nil && (l.Unix.Path == "" || l.Protocol != socket.Unix || len(l.Members) != 1) || err != nil && !errors.Is(err, errLine) && !errors.Is(err, errNoListener) {
			t.Errorf("%+v, %v", l, err)
		}
	})
}
