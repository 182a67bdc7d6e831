package owner

import (
	"errors"
	"os/user"
	"strings"
	"testing"
)

func TestNameInPasswd(t *testing.T) {
	unknown := user.UnknownUserIdError(33)
	for text, want := range map[string]string{
		"":                                "",
		"www-data:x:33":                   "", // cut
		"www-data:x:-33:33::/:/bin/sh\n":  "",
		":x:33:33::/:/bin/sh\n":           "",
		"#www-data:x:33:33::/:/bin/sh\n":  "",
		"+nis:x:33:33::/:/bin/sh\n":       "", // of nsswitch's compat
		"x:33:33:33\n":                    "x",
		"www-data:x:4294967329:33::/:/\n": "", // 33 + 2^32
		"root:x:0:0::/:/\nwww-data:x:33:33::/:/\nother:x:33:33::/:/\n":        "www-data",
		"www-data:x:33:33::/:/bin/sh":                                         "www-data", // no end of line
		strings.Repeat("a", 300) + ":x:33:33::/:/\nb:x:33:33::/:/\n":          "b",
		strings.Repeat("a:x:1:1::/:/\n", maxPasswd/13+1) + "b:x:33:33::/:/\n": "", // beyond the limit
	} {
		name, err := nameInPasswd(strings.NewReader(text), 33)
		if name != want || want == "" && !errors.Is(err, unknown) || want != "" && err != nil {
			t.Errorf("%.60q: %q, %v; want %q", text, name, err, want)
		}
	}
	if name, err := nameInPasswd(strings.NewReader(strings.Repeat("x", 1<<20)), 33); err == nil || errors.Is(err, unknown) {
		t.Errorf("an endless line: %q, %v", name, err)
	}
}

func FuzzNameInPasswd(f *testing.F) {
	f.Add("root:x:0:0::/:/\nwww-data:x:33:33::/:/\n")
	f.Fuzz(func(t *testing.T, text string) {
		if name, err := nameInPasswd(strings.NewReader(text), 33); err == nil && (name == "" || !strings.Contains(text, name+":")) {
			t.Errorf("%q: %q", text, name)
		}
	})
}

func TestNameInReply(t *testing.T) {
	for text, want := range map[string]string{
		"":   "",
		"{}": "",
		"[]": "",
		`{"parameters":{"record":{"userName":"web"}}}`:                                                        "",
		`{"parameters":{"record":{"userName":"web","uid":4}}}`:                                                "", // another user
		`{"parameters":{"record":{"userName":"","uid":62955}}}`:                                               "",
		`{"parameters":{"record":{"userName":"web","uid":-1}}}`:                                               "",
		`{"error":"io.systemd.UserDatabase.ServiceNotAvailable"}`:                                             "",
		`{"parameters":{"record":{"userName":"web","uid":62955,"disposition":"dynamic"},"incomplete":false}}`: "web",
	} {
		name, err := nameInReply([]byte(text), 62955)
		if name != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", text, name, err)
		}
		if errors.Is(err, user.UnknownUserIdError(62955)) {
			t.Errorf("%s: taken for a user without a name", text)
		}
	}
	_, err := nameInReply([]byte(`{"error":"io.systemd.UserDatabase.NoRecordFound","parameters":{}}`), 62955)
	if !errors.Is(err, user.UnknownUserIdError(62955)) {
		t.Errorf("no record: %v", err)
	}
}
