package gate

import (
	"strings"
	"testing"
)

// FuzzWebConfig reads any text as a web configuration: an error never repeats a
// value of it, and nothing opens the door that was shut.
func FuzzWebConfig(f *testing.F) {
	const users = "basic_auth_users:\n  a: $2a$04$0123456789012345678901234567890123456789012345678901\n"
	for _, text := range []string{"", users, users[:20], "tls_server_config: {cert: a, key: b}\n", "tls_server_config: {min_version: TLS9}\n", "a: &a [*a]\n", "---\n---\n", "basic_auth_users: {a: [sesame]}\n"} {
		f.Add(text)
	}
	before := &rules{keys: map[string]bool{}}
	if err := before.parse([]byte(users)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &rules{keys: map[string]bool{}}
		if err := r.parse([]byte(text)); err != nil {
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("%v", err)
			}
			return
		}
		_ = r.check()
		if r.opens(before) == nil && len(r.Users) == 0 && !strings.Contains(text, "basic_auth_users") {
			t.Errorf("%q opens the door", text)
		}
	})
}
