package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// TestCheckIsThatOfTheConfiguredTarget checks the address of configured targets: with
// their hostname and module, or with what the command line says.
func TestCheckIsThatOfTheConfiguredTarget(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		} else if !strings.HasPrefix(r.Host, "a.test") {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer server.Close()
	one := fmt.Sprintf("targets: [{address: %q, hostname: a.test}]", server.URL)
	two := fmt.Sprintf("targets: [{address: %q, hostname: a.test, name: a}, {address: %[1]q, hostname: b.test, name: b}]", server.URL)
	bare := fmt.Sprintf("targets: [{address: %q, hostname: a.test, name: a}, {address: %[1]q, name: none}]", server.URL)
	ping := fmt.Sprintf("modules: {teapot: {prober: http, http: {valid_status_codes: [418]}}}\ntargets: [{address: %q, module: teapot}]", server.URL)
	for _, tt := range []struct {
		name, config string
		o            checkOptions
		want         int // exit status
		says         string
	}{
		{"the hostname of the target", one, checkOptions{}, 0, "answers as expected"},
		{"another hostname", one, checkOptions{Hostname: "b.test"}, 1, "the status is 418"},
		{"a hostname for a target that is not configured", "", checkOptions{Hostname: "a.test"}, 0, "answers as expected"},
		{"neither", "", checkOptions{}, 1, "the status is 418"},
		{"several", two, checkOptions{}, 2, "choose one: --module=http_2xx --hostname=a.test, or --module=http_2xx --hostname=b.test"},
		{"one of several", two, checkOptions{Hostname: "b.test"}, 1, "the status is 418"},
		{"one without a hostname among several", bare, checkOptions{}, 1, "the status is 418"},
		{"the module of the target", ping, checkOptions{}, 0, "answers as expected"},
		{"the log", one, checkOptions{Debug: true}, 0, "msg=response status_code=200"},
		{"what /metrics would deny", "", checkOptions{Targets: []string{server.URL + "/away"}}, 2, "outcome denied"},
		{"a hostname that the prober does not take", "", checkOptions{Module: "icmp", Hostname: "a.test", Targets: []string{"127.0.0.1"}}, 2, "the prober icmp takes none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, stdout, _ := host(t, tt.config)
			h.System.Addresses = func() (map[netip.Addr]string, error) { return nil, nil }
			if tt.o.Targets == nil {
				tt.o.Targets = []string{server.URL}
			}
			err := checkTargets(t.Context(), h, tt.o)
			got, text := 0, stdout.String()
			if err != nil {
				exit, ok := errors.AsType[*ExitError](err)
				if !ok {
					t.Fatal(err)
				}
				got, text = exit.Code, text+exit.Message
			}
			if got != tt.want || !strings.Contains(text, tt.says) {
				t.Errorf("status %d, want %d:\n%s\nwant in it: %s", got, tt.want, text, tt.says)
			}
		})
	}
}
