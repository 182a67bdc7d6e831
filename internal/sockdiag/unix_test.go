package sockdiag

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// unixMessage is a struct unix_diag_msg of a listener with attributes.
func unixMessage(state socket.State, attributes ...[]byte) []byte {
	b := []byte{familyUnix, 1, byte(state), 0}
	for _, n := range []uint32{77, 5, 6} { // inode, cookie
		b = native.AppendUint32(b, n)
	}
	return join(append([][]byte{b}, attributes...)...)
}

func unixQueue(length, limit uint32) []byte {
	return attribute(attrUnixQueues, native.AppendUint32(native.AppendUint32(nil, length), limit)...)
}

func TestDecodeUnix(t *testing.T) {
	name := attribute(attrUnixName, []byte("/run/php\n\xff.sock\x00")...)
	uid := attribute(attrUnixUID, native.AppendUint32(nil, 33)...)
	whole := unixMessage(socket.Listen, name, uid, unixQueue(3, 2))
	for what, b := range map[string][]byte{
		"nothing":                        nil,
		"one byte short":                 unixMessage(socket.Listen)[:unixDiagMsgLen-1],
		"another family":                 append([]byte{familyINET}, whole[1:]...),
		"no listener":                    unixMessage(socket.Established, name),
		"without a name":                 unixMessage(socket.Listen, uid),
		"an empty name":                  unixMessage(socket.Listen, attribute(attrUnixName)),
		"attribute one byte short":       whole[:len(whole)-1],
		"attribute without its header":   unixMessage(socket.Listen, name, []byte{2, 0, 0, 0}),
		"attribute longer than the rest": unixMessage(socket.Listen, []byte{200, 0, 0, 0, 1, 2, 3, 4}),
	} {
		if row, err := decodeUnix(b); !errors.Is(err, socket.ErrMalformed) {
			t.Errorf("%s: %+v, %v", what, row, err)
		}
	}
	const all = socket.KnowsUID | socket.KnowsQueues | socket.KnowsAcceptQueueLimit
	for what, tt := range map[string]struct {
		message       []byte
		name          socket.UnixName
		known         socket.Facts
		length, limit uint64
		full          int
	}{
		"full":          {whole, socket.UnixName{Path: "/run/php\n\xff.sock"}, all, 3, 2, 1},
		"at its limit":  {unixMessage(socket.Listen, name, unixQueue(2, 2)), socket.UnixName{Path: "/run/php\n\xff.sock"}, all &^ socket.KnowsUID, 2, 2, 0},
		"abstract":      {unixMessage(socket.Listen, attribute(attrUnixName, []byte("\x00a\x00b")...)), socket.UnixName{Path: "@a@b", Abstract: true}, 0, 0, 0, 0},
		"queues cut":    {unixMessage(socket.Listen, name, attribute(attrUnixQueues, 1, 0, 0, 0, 1, 0, 0)), socket.UnixName{Path: "/run/php\n\xff.sock"}, 0, 0, 0, 0},
		"other columns": {unixMessage(socket.Listen, attribute(1, make([]byte, 8)...), name), socket.UnixName{Path: "/run/php\n\xff.sock"}, 0, 0, 0, 0},
	} {
		row, err := decodeUnix(tt.message)
		if err != nil || row.Unix != tt.name || row.Known != tt.known || row.AcceptQueue != tt.length || row.AcceptQueueLimit != tt.limit || row.Full != tt.full {
			t.Errorf("%s: %+v, %v", what, row, err)
		}
		if m := row.Members[0]; m.Inode != 77 || m.Cookie != 6<<32|5 || row.Scope != socket.ScopeLoopback || row.Protocol != socket.Unix {
			t.Errorf("%s: %+v", what, row)
		}
	}
}

// Rows that Linux 6.18 wrote: a stream listener of a path with a full queue, one with
// an abstract name, one whose name the kernel chose, and a seqpacket one whose file is
// gone. They are of a little-endian machine.
var realUnix = []string{
	"01010a00339db7016619900000000000380000002f746d702f54657374556e6978496e4e616d657370616365333235363631393332372f3030312f7068702d66706d2e736f636b000c000400060000000500000005000600000000000800070000000000",
	"01050a00349db7016719900000000000350000002f746d702f54657374556e6978496e4e616d657370616365333235363631393332372f3030312f676f6e652e736f636b000000000c000400010000000000000005000600000000000800070000000000",
	"01050a00369db70168199000000000000d0000000061627374726163740000000c000400000000000700000005000600000000000800070000000000",
	"01010a00379db7016a199000000000000a00000000396136336600000c000400000000000300000005000600000000000800070000000000",
}

func TestDecodeRealUnix(t *testing.T) {
	if bigEndian {
		t.Skip("SKIP-ENDIAN: the rows are of a little-endian host")
	}
	got := map[string]string{}
	for _, row := range unhex(t, realUnix) {
		l, err := decodeUnix(row)
		if err != nil || l.Members[0].Cookie == 0 || !l.Known.Has(socket.KnowsUID) {
			t.Errorf("%x: %+v, %v", row, l, err)
		}
		got[path.Base(l.Unix.Path)] = fmt.Sprintf("%s %d/%d %d", l.Unix.Kind(), l.AcceptQueue, l.AcceptQueueLimit, l.Full)
	}
	want := map[string]string{"php-fpm.sock": "path 6/5 1", "gone.sock": "path 1/0 1", "@abstract": "abstract 0/7 0", "@9a63f": "abstract 0/3 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzDecodeUnix reads any row: a listener with a name, or an error.
func FuzzDecodeUnix(f *testing.F) {
	for _, row := range realUnix {
		if b, err := hex.DecodeString(row); err == nil {
			f.Add(b)
		}
	}
	f.Add(unixMessage(socket.Listen, attribute(attrUnixName, 'x'), unixQueue(1, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		row, err := decodeUnix(b)
		if err != nil && !errors.Is(err, socket.ErrMalformed) || err == nil && (row.Unix.Path == "" && !row.Unix.Abstract && b[unixDiagMsgLen] == 0) {
			t.Errorf("%+v, %v", row, err)
		}
	})
}
