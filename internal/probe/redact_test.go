package probe

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// TestRedact has passwords in what is a target to some prober, and in what is
// none: clients write what they want, and the status page is for everybody.
func TestRedact(t *testing.T) {
	for _, tt := range []struct{ address, want string }{
		{"u:s3cret@host:8000/x", "u:xxxxx@host:8000/x"}, // which http probes
		{"http://u:s3cret@host:port/", "http://u:xxxxx@host:port/"},
		{"http://u:s3cret%zz@host/", "http://u:xxxxx@host/"},
		{" http://u:s3cret@host/", " http://u:xxxxx@host/"},
		{"http://u:s3c/ret@host/", "http://u:xxxxx@host/"},
		{"http://u:s3c#ret@host/", "http://u:xxxxx@host/"},
		{"http://u:s3c ret@host/", "http://u:xxxxx@host/"},
		{"http://u:s3c@ret@host/", "http://u:xxxxx@host/"},
		{"http://u:%733cret@host/", "http://u:xxxxx@host/"},
		{"http://u:s3cret@[::1/", "http://u:xxxxx@[::1/"},
		{"http:\\\\u:s3cret@host", "http:xxxxx@host"},
		{"http://s3c ret/x@host/", "http://xxxxx@host/"},
		{"ftp://u:s3cret@host/", "ftp://u:xxxxx@host/"},
		{"HTTPS://u:s3cret@host/", "HTTPS://u:xxxxx@host/"},
		{"u:s3cret@host", "u:xxxxx@host"},
		{"//u:s3cret@host/", "//u:xxxxx@host/"},

		{"u:s3cret@h/://x y", "u:xxxxx@h/://x y"},
		{"u@h://x y", "u@h://x y"},

		{"http://user@host/", "http://user@host/"},
		{"http://user:@host/", "http://user:@host/"},
		{"http://host:80/a@b?c=d@e", "http://host:80/a@b?c=d@e"},
		{"host:80", "host:80"},
		{"[2001:db8::1]:80", "[2001:db8::1]:80"},
		{"/run/a:b@c.sock", "/run/a:b@c.sock"},
		{"//run/a:b@c.sock", "//run/a:b@c.sock"},
		{"@abstract", "@abstract"},
		{"", ""},
	} {
		got := Redact(tt.address, tt.address)
		if got != tt.want {
			t.Errorf("%q is %q, want %q", tt.address, got, tt.want)
		}
		if tt.want == tt.address {
			continue
		}
		_, err := url.Parse(tt.address)
		text := Redact(fmt.Sprintf("probing %q: %v", tt.address, err), tt.address)
		for _, secret := range []string{"s3c", "ret"} {
			if strings.Contains(strings.ReplaceAll(text, "cret", "ret"), secret) {
				t.Errorf("%q has a part of the password: %s", tt.address, text)
			}
		}
	}
}

// TestRedactFormsOfAPassword has a password as it is written, as it is meant,
// and as others write it.
func TestRedactFormsOfAPassword(t *testing.T) {
	const address = "http://me:p%40s%22s@name.example/"
	for _, text := range []string{"p%40s%22s", "p@s\"s", `p@s\"s`, url.UserPassword("me", "p@s\"s").String()} {
		if got := Redact("dial "+text+" failed", address); strings.Contains(got, "s") && strings.Contains(got, "p%40") || strings.Contains(got, "p@") {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("http://u", "a", "host/")
	f.Add("", "%zz", "host:80")
	f.Add("", "", "u@h://x y")
	f.Fuzz(func(t *testing.T, before, password, after string) {
		_ = Redact(before, after) // whatever it is
		address := "http://u:" + password + "@" + after
		if strings.ContainsAny(after, "@") || len(password) < 3 || strings.ContainsAny(password, "/?#") || strings.Contains("xxxxx", password) {
			return
		}
		if got := Redact(before+address, address); strings.Contains(got, ":"+password+"@") {
			t.Errorf("%q: %q", address, got)
		}
	})
}
