package web

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/netaddr"
)

const (
	// maxConnections is above what /probe and the scrapes take by default.
	maxConnections = 640
	// connectionMemory is what a header of the longest kind takes, in bytes, measured:
	// one line of it takes 36 kB, short lines with names of their own 240 kB, and those of
	// all streams of HTTP/2 300 kB.
	connectionMemory = 320 << 10
	// admission is how long a connection may be open before a request of it passes
	// the authentication: promise 3 of docs/security.md has 15 s.
	admission = 14 * time.Second
)

// Connections returns how many connections are open at most. They take up to a quarter
// of the file descriptors, of which zero are no limit, and of the memory, in bytes.
func Connections(descriptors uint64, memory int64) int {
	most := min(maxConnections, uint64(max(memory, 0))/4/connectionMemory)
	if descriptors > 0 {
		most = min(most, descriptors/4)
	}
	return max(4, int(most))
}

// connections are the open connections of a server. One too many is not refused:
// it takes the place of one that waits. A connection that a client keeps open to no
// end must not be what a scrape cannot get.
type connections struct {
	most   int
	logger *slog.Logger

	mu   sync.Mutex
	open map[net.Conn]*connection
}

// connection is one of them. What is below conn belongs to the mutex of
// connections.
type connection struct {
	conn      net.Conn
	client    netip.Prefix
	admitting *time.Timer // closes it, unless it is admitted

	waiting  time.Time // since when the server waits for the client to send or to read
	requests int       // that the server works for: it is the client who waits
}

// connectionKey has the *connection of a request in its context.
type connectionKey struct{}

// opened is for http.Server.ConnContext.
func (c *connections) opened(ctx context.Context, conn net.Conn) context.Context {
	made := &connection{conn: conn, client: netaddr.Client(conn.RemoteAddr().String()), waiting: time.Now()}
	c.mu.Lock()
	c.open[conn] = made
	made.admitting = time.AfterFunc(admission, func() { c.close(made) })
	var dropped *connection
	if len(c.open) > c.most {
		dropped = c.longestWaiting(made)
	}
	c.mu.Unlock()
	if dropped != nil {
		c.close(dropped)
		c.logger.Warn("too many connections, closing the oldest idle one", "limit", c.most, "client", dropped.client.Addr())
	}
	return context.WithValue(ctx, connectionKey{}, made)
}

// longestWaiting returns the connection that makes room for a new one: of the client
// that has the most, that which waits longest. Where the server works for all of them,
// it is the new one itself, unless another client has more than its own.
func (c *connections) longestWaiting(made *connection) *connection {
	of := make(map[netip.Prefix]int, len(c.open))
	for _, each := range c.open {
		of[each.client]++
	}
	before := func(a, b *connection) bool {
		switch {
		case (a.requests > 0) != (b.requests > 0):
			return b.requests > 0
		case of[a.client] != of[b.client]:
			return of[a.client] > of[b.client]
		default:
			return a.waiting.Before(b.waiting)
		}
	}
	var found *connection
	for _, each := range c.open {
		if each != made && (found == nil || before(each, found)) {
			found = each
		}
	}
	if found.requests > 0 && of[found.client] <= of[made.client] {
		return made
	}
	return found
}

// changed is for http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		c.forget(conn)
	}
}

func (c *connections) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if each, ok := c.open[conn]; ok {
		each.admitting.Stop()
		delete(c.open, conn)
	}
}

// close closes a connection without a word: TLS would wait for the client to read
// one.
func (c *connections) close(each *connection) {
	c.forget(each.conn)
	_ = raw(each.conn).Close()
}

// admit lets the connection of a request stay: the request has passed the
// authentication.
func (c *connections) admit(r *http.Request) {
	if each, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		each.admitting.Stop()
	}
}

// work marks the connection of a request as one whose client waits for the server,
// until the function it returns is called.
func (c *connections) work(ctx context.Context) (done func()) {
	each, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	each.requests++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		each.requests--
		each.waiting = time.Now()
	}
}

// raw returns the connection below TLS.
func raw(conn net.Conn) net.Conn {
	if encrypted, ok := conn.(*tls.Conn); ok {
		return encrypted.NetConn()
	}
	return conn
}
