package procnet

import (
	"bytes"
	"testing"
)

// FuzzUnixListeners counts the lines of any text.
func FuzzUnixListeners(f *testing.F) {
	f.Add([]byte("Num       RefCount Protocol Flags    Type St Inode Path\n0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/x\n"))
	f.Add([]byte("0: 2 0 00010000 0001 01 1 @a\n0: 2 0 00010000 0001 01 1 /a\nb 00010000 \x00\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		counts, err := countUnixListeners(bytes.NewReader(text))
		if lines := bytes.Count(text, []byte("\n")) + 1; err == nil && counts.Path+counts.Abstract > lines {
			t.Errorf("%+v of %d lines", counts, lines)
		}
	})
}
