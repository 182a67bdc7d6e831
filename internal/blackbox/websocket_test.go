package blackbox_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe"
)

func newWebSocket(t *testing.T, settings string) *probe.Module {
	t.Helper()
	var s blackbox.WebSocket
	if err := yaml.Unmarshal([]byte(settings), &s); err != nil {
		t.Fatal(err)
	}
	return &probe.Module{Kind: probe.KindWebSocket, Prober: blackbox.NewWebSocket(s, nil, files.NewReader())}
}

// chat is a server of websockets that notes the request of each.
func chat(t *testing.T, note func(*http.Request)) string {
	t.Helper()
	return web(t, func(w http.ResponseWriter, r *http.Request) {
		note(r)
		if conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}); err == nil {
			_, _, _ = conn.Read(r.Context())
			_ = conn.CloseNow()
		}
	})
}

// TestWebSocketRequest sends what the module says: headers, and what proves who we are.
func TestWebSocketRequest(t *testing.T) {
	var got *http.Request
	url := "ws" + strings.TrimPrefix(chat(t, func(r *http.Request) { got = r }), "http")
	r := newWebSocket(t, `
http_config: {basic_auth: {username: u, password: p}}
headers:
  Origin: {values: ["https://example.org"]}
  Host: {values: [chat.test]}
  X-Token: {secrets: [a, b]}
`).Probe(t.Context(), probe.Request{Address: url})
	if r.Outcome != probe.Open {
		t.Fatalf("%s: %v", described(r), r.Err)
	}
	user, password, _ := got.BasicAuth()
	if user != "u" || password != "p" || got.Host != "chat.test" || got.Header.Get("Origin") != "https://example.org" || len(got.Header["X-Token"]) != 2 ||
		!strings.HasPrefix(got.UserAgent(), "Blackbox-Exporter/") {
		t.Errorf("the server got %s %q, %s:%s", got.Host, got.Header, user, password)
	}
}

// TestWebSocketThroughProxies asks each kind of proxy for a connection: one that is
// sent the request itself would not pass the upgrade on.
func TestWebSocketThroughProxies(t *testing.T) {
	url := chat(t, func(*http.Request) {})
	place := strings.TrimPrefix(url, "http://")
	for name, proxy := range map[string]*forward{"http": httpProxy(t, place, nil), "socks5://user:secret@": socksProxy(t, place)} {
		scheme, login, _ := strings.Cut(name, "://")
		at := strings.TrimPrefix(proxy.address, "http://")
		r := newWebSocket(t, "http_config: {proxy_url: '"+scheme+"://"+login+at+"'}").Probe(t.Context(), probe.Request{Address: "ws://" + place})
		if asked := proxy.took(); r.Outcome != probe.Open || len(asked) != 1 || scheme == "http" && !strings.HasPrefix(asked[0], "CONNECT "+place) {
			t.Errorf("%s: %s, asked for %q: %v", name, described(r), asked, r.Err)
		}
	}
	down := newWebSocket(t, "http_config: {proxy_url: 'http://"+closedPort+"'}").Probe(t.Context(), probe.Request{Address: "ws://" + place})
	if down.Origin != probe.OriginProxy || down.Outcome != probe.Refused {
		t.Errorf("a proxy that is down: %s: %v", described(down), down.Err)
	}
}
