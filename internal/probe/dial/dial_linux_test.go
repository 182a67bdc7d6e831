package dial

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// A struct sock_extended_err with the address of the offender behind it, as a
// little-endian kernel gives it.
const (
	refused4    = "6f000000 02 03 03 00 00000000 00000000" + "0200 0000 c0000201 0000000000000000"
	prohibited6 = "0d000000 03 01 01 00 00000000 00000000" + "0a00 0000 00000000 20010db8000000000000000000000001 00000000"
	mapped6     = "6f000000 02 03 03 00 00000000 00000000" + "0a00 0000 00000000 00000000000000000000ffffc0000201 00000000"
	tooBig      = "5a000000 01 00 00 00 dc050000 00000000" + "0000 0000 00000000 0000000000000000"
	nobody      = "6f000000 02 03 03 00 00000000 00000000" + "0000 0000 00000000 0000000000000000"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseExtendedError(t *testing.T) {
	for _, tc := range []struct {
		name string
		b    []byte
		want probe.ICMPError
		ok   bool
	}{
		{"empty", nil, probe.ICMPError{}, false},
		{"no address", unhex(t, refused4)[:17], probe.ICMPError{}, false},
		{"IPv4 one byte short", unhex(t, refused4)[:23], probe.ICMPError{Type: 3, Code: 3}, false},
		{"IPv6 one byte short", unhex(t, prohibited6)[:39], probe.ICMPError{V6: true, Type: 1, Code: 1}, false},
		{"of this host's own making", unhex(t, tooBig), probe.ICMPError{}, false},
		{"no offender", unhex(t, nobody), probe.ICMPError{Type: 3, Code: 3}, false},
		{"IPv4", unhex(t, refused4), probe.ICMPError{Offender: netip.MustParseAddr("192.0.2.1"), Type: 3, Code: 3}, true},
		{"IPv6", unhex(t, prohibited6), probe.ICMPError{Offender: netip.MustParseAddr("2001:db8::1"), V6: true, Type: 1, Code: 1}, true},
		{"IPv4 on an IPv6 socket", unhex(t, mapped6), probe.ICMPError{Offender: netip.MustParseAddr("192.0.2.1"), Type: 3, Code: 3}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := parseExtendedError(tc.b)
			if ok != tc.ok {
				t.Errorf("ok = %v", ok)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(probe.ICMPError{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzErrorMessage(f *testing.F) {
	for _, text := range []string{refused4, prohibited6, mapped6, tooBig, nobody} {
		f.Add(unhex(f, text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseExtendedError(b); ok != e.Offender.IsValid() {
			t.Errorf("%v with offender %v", ok, e.Offender)
		}
		ParseErrorMessage(b)
	})
}
