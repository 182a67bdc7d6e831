package web

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// What a client may take of the server. All but maxIdle hold before it has shown a
// password.
const (
	// maxSending is for a request to come whole, and maxReading for an answer to be
	// read.
	maxSending = 10 * time.Second
	maxReading = 10 * time.Second
	// maxIdle is how long a connection may wait for its next request: longer than
	// scrapes are usually apart.
	maxIdle = 2 * time.Minute
	// maxHeader is in bytes; net/http adds 4 kB.
	maxHeader = 16 << 10
	// maxStreams is how many requests one connection of HTTP/2 may carry at a time: each
	// has a header of its own. Clients open another connection for more.
	maxStreams = 4
)

// NewServer returns a server with deadlines and limits for every client.
// It has so many [Connections] at most. What net/http logs, such as handshakes that fail, goes to package log.
func NewServer(handler http.Handler, most int, logger *slog.Logger) *http.Server {
	c := &connections{most: most, logger: logger, open: map[net.Conn]*connection{}}
	return &http.Server{
		Handler:        c.admitted(guarded(handler, logger)),
		ConnContext:    c.opened,
		ConnState:      c.changed,
		ReadTimeout:    maxSending,
		WriteTimeout:   maxReading,
		IdleTimeout:    maxIdle,
		MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxDecoderHeaderTableSize:     4 << 10,
			MaxReadFrameSize:              16 << 10, // the least that HTTP/2 has
			MaxReceiveBufferPerConnection: 64 << 10, // likewise
			MaxReceiveBufferPerStream:     4 << 10,
			WriteByteTimeout:              maxReading,
		},
	}
}

// admitted hands a handler the requests that passed the authentication. No endpoint
// reads a body, so none is waited for: net/http would, before it answers.
func (c *connections) admitted(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.admit(r)
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
		}
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), connectionsKey{}, c)))
	})
}

// connectionsKey has the *connections of a request in its context.
type connectionsKey struct{}

// Work keeps the connection of a request from being closed in favour of another,
// until the function it returns is called: while the server works and the client
// waits.
func Work(ctx context.Context) (done func()) {
	if c, ok := ctx.Value(connectionsKey{}).(*connections); ok {
		return c.work(ctx)
	}
	return func() {}
}

// Allow gives a request more time than others have: so long to make its answer, and as
// long again on a host that is busy. From then on the client has as much time to read
// it as others.
func Allow(w http.ResponseWriter, r *http.Request, work time.Duration) {
	conn, deadline := http.NewResponseController(w), time.Now().Add(2*work+maxReading)
	// Not every writer has deadlines; those of tests do not.
	_ = conn.SetWriteDeadline(deadline)
	if r.ContentLength == 0 { // net/http goes on reading, to see the client leave
		_ = conn.SetReadDeadline(deadline)
	}
}
