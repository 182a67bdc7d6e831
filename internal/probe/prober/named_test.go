package prober

import (
	"net/url"
	"testing"
)

// TestPortsThatAreNamed: credentials follow a redirect to the port of the target, and
// from http to https where neither names a port.
func TestPortsThatAreNamed(t *testing.T) {
	for _, tt := range []struct {
		target, to string
		want       bool
	}{
		{"http://a.test/", "http://a.test:80/x", true},
		{"http://a.test/", "https://a.test/", true},
		{"http://a.test:80/", "https://A.test.:443/", true},
		{"https://a.test/", "https://a.test:443/", true},
		{"https://a.test:8443/", "https://a.test:8443/x", true},
		{"http://a.test:8080/", "https://a.test:8080/", true},
		{"http://a.test/", "http://a.test:8080/", false},
		{"http://a.test/", "https://a.test:8443/", false},
		{"http://a.test:8080/", "https://a.test/", false},
		{"http://a.test:80/", "http://a.test:443/", false},
		{"https://a.test/", "https://a.test:8443/", false},
		{"http://a.test/", "https://www.a.test/", false},
	} {
		from, _ := url.Parse(tt.target)
		to, _ := url.Parse(tt.to)
		x := &exchange{HTTP: &HTTP{}, target: from}
		if got := x.isNamed(to); got != tt.want {
			t.Errorf("from %s to %s: %t", tt.target, tt.to, got)
		}
	}
}
