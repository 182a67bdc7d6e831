package blackbox

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// conversation is what a client says, and what it is told.
type conversation struct {
	io.Reader
	io.Writer
}

func greeted(said string) (string, error) {
	_, to, err := greet(conversation{strings.NewReader(said), io.Discard}, "secret")
	return to, err
}

const (
	hello = "\x05\x02\x00\x02" + "\x01\x05probe\x06secret"
	ask4  = "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"
)

func TestGreet(t *testing.T) {
	for name, said := range map[string]string{
		"nothing":            "",
		"HTTP":               "GET / HTTP/1.1\r\n\r\n",
		"SOCKS4":             "\x04\x01\x00\x50\xc0\x00\x02\x01\x00",
		"another password":   "\x05\x01\x02\x01\x05probe\x06secreT" + ask4,
		"no password":        "\x05\x01\x02\x01\x05probe\x00" + ask4,
		"BIND":               hello + "\x05\x02\x00\x01\xc0\x00\x02\x01\x00\x50",
		"an unknown address": hello + "\x05\x01\x00\x02\xc0\x00\x02\x01\x00\x50",
	} {
		if to, err := greeted(said); err == nil {
			t.Errorf("%s: it may go to %s", name, to)
		}
	}
	for n := range len(hello + ask4) {
		if to, err := greeted((hello + ask4)[:n]); err == nil {
			t.Errorf("cut to %d bytes: it may go to %s", n, to)
		}
	}
	for said, want := range map[string]string{
		ask4:                                   "192.0.2.1:80",
		"\x05\x01\x00\x03\x08web.test\x01\xbb": "web.test:443",
		"\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x1f\x90": "[2001:db8::1]:8080",
	} {
		if to, err := greeted(hello + said); err != nil || to != want {
			t.Errorf("got %q, %v, want %s", to, err, want)
		}
	}
}

func FuzzGreet(f *testing.F) {
	f.Add([]byte(hello + ask4))
	f.Add([]byte("\x05\x01\x02"))
	f.Fuzz(func(t *testing.T, said []byte) {
		_, to, err := greet(conversation{bytes.NewReader(said), io.Discard}, "secret")
		if err == nil && (to == "" || !bytes.Contains(said, []byte("\x06secret"))) {
			t.Errorf("without the password it may go to %q", to)
		}
	})
}
