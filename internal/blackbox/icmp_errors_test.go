package blackbox

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// quoted is an echo request to 192.0.2.9, as an error quotes it, and quotedV6 one
// to 2001:db8::9.
func quoted(options int) []byte {
	b := make([]byte, 20+options+8)
	b[0] = 4<<4 | byte(5+options/4)
	b[9] = protocolICMP
	copy(b[16:], []byte{192, 0, 2, 9})
	b[20+options] = echo
	return b
}

func quotedV6() []byte {
	b := make([]byte, 48)
	b[0], b[6], b[24], b[25], b[26], b[27], b[39], b[40] = 6<<4, protocolICMPv6, 0x20, 0x01, 0x0d, 0xb8, 9, echoV6
	return b
}

func errorAbout(kind, code byte, quoted []byte) []byte {
	return append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, quoted...)
}

func changed(b []byte, at int, to byte) []byte {
	b[at] = to
	return b
}

func TestParseError(t *testing.T) {
	whole, wholeV6 := errorAbout(3, 1, quoted(0)), errorAbout(1, 0, quotedV6())
	for name, b := range map[string][]byte{
		"nothing":         {},
		"cut":             whole[:8+20],
		"of UDP":          errorAbout(3, 3, changed(quoted(0), 9, 17)),
		"of an answer":    errorAbout(3, 1, changed(quoted(0), 20, 0)),
		"no error":        errorAbout(0, 0, quoted(0)),
		"a redirect":      errorAbout(5, 1, quoted(0)),
		"a short header":  errorAbout(3, 1, changed(quoted(0), 0, 0x44)),
		"options cut off": errorAbout(3, 1, changed(quoted(0), 0, 0x4f)),
		"IPv6 in IPv4":    errorAbout(3, 1, quotedV6()),
	} {
		if e, about, ok := parseError(b, false); ok {
			t.Errorf("%s: %v about %v", name, e, about)
		}
	}
	for name, b := range map[string][]byte{
		"nothing": {}, "cut": wholeV6[:8+40], "of UDP": errorAbout(1, 4, changed(quotedV6(), 6, 17)),
		"an echo request": errorAbout(128, 0, quotedV6()), "IPv4 in IPv6": errorAbout(1, 0, quoted(20)),
	} {
		if e, about, ok := parseError(b, true); ok {
			t.Errorf("%s, IPv6: %v about %v", name, e, about)
		}
	}
	type found struct {
		Kind, Code uint8
		About      string
	}
	for _, tt := range []struct {
		b    []byte
		v6   bool
		want found
	}{
		{whole, false, found{3, 1, "192.0.2.9"}},
		{errorAbout(11, 0, quoted(8)), false, found{11, 0, "192.0.2.9"}},
		{wholeV6, true, found{1, 0, "2001:db8::9"}},
		{errorAbout(3, 0, quotedV6()), true, found{3, 0, "2001:db8::9"}},
	} {
		e, about, ok := parseError(tt.b, tt.v6)
		if diff := cmp.Diff(tt.want, found{e.kind, e.code, about.String()}); diff != "" || !ok {
			t.Errorf("%v (-want +got):\n%s", ok, diff)
		}
	}
}

func FuzzParseError(f *testing.F) {
	f.Add(errorAbout(3, 1, quoted(4)), false)
	f.Add(errorAbout(1, 0, quotedV6()), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		_, about, ok := parseError(b, v6)
		if ok && (about == (netip.Addr{}) || about.Is6() != v6) {
			t.Errorf("%v", about)
		}
	})
}
