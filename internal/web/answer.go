package web

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// How many bytes of answers wait to be read by their clients. Beyond the first, the
// answers of clients that have read nothing for a second are given up; beyond the
// second, any. A single answer may be larger.
const (
	maxUnread  = 32 << 20
	mostUnread = 4 * maxUnread
	stalled    = time.Second
)

// answer is a response in memory. What makes it does not wait for the client.
type answer struct {
	http.ResponseWriter // for [http.ResponseController] only
	header              http.Header
	status              int
	body                bytes.Buffer
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Header implements [http.ResponseWriter].
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// discard forgets what was written.
func (a *answer) discard() {
	a.status = 0
	a.body.Reset()
}

// answers are those that are being written to their clients.
type answers struct {
	mu     sync.Mutex
	bytes  int
	unread map[*unread]bool
}

// unread is one of them. Its time belongs to the mutex of answers.
type unread struct {
	body    []byte
	conn    *http.ResponseController
	waiting time.Time // since when the client has read nothing
}

// chunk is how much is written before the client counts as one that reads, in bytes.
const chunk = 64 << 10

// sent sends what a handler answers.
func (s *answers) sent(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.send(w, r, handler) })
}

// send writes what a handler answered. The handler has ended by then: only the answer
// waits for the client.
func (s *answers) send(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	a := &answer{ResponseWriter: w, header: w.Header()}
	a.body.Grow(chunk) // an answer of a small host does not grow it again
	handler.ServeHTTP(a, r)
	a.WriteHeader(http.StatusOK)
	if a.header.Get("Content-Type") == "" && a.body.Len() > 0 {
		a.header.Set("Content-Type", http.DetectContentType(a.body.Bytes()))
	}
	a.header.Set("Content-Length", strconv.Itoa(a.body.Len()))
	u := &unread{body: a.body.Bytes(), conn: http.NewResponseController(w)}
	s.begin(u)
	defer s.end(u)
	_ = u.conn.SetWriteDeadline(time.Now().Add(maxReading)) // that of the server began with the request
	w.WriteHeader(a.status)
	for part := range slices.Chunk(u.body, chunk) {
		if _, err := w.Write(part); err != nil {
			return
		}
		s.progress(u)
	}
}

// begin adds an answer, and makes room for it: the clients that have read nothing for
// longest lose theirs.
func (s *answers) begin(u *unread) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes+len(u.body) > maxUnread && len(s.unread) > 0 {
		longest := slices.MinFunc(slices.Collect(maps.Keys(s.unread)), func(a, b *unread) int { return a.waiting.Compare(b.waiting) })
		if time.Since(longest.waiting) < stalled && s.bytes+len(u.body) <= mostUnread {
			break
		}
		_ = longest.conn.SetWriteDeadline(time.Unix(1, 0))
		s.remove(longest)
	}
	if s.unread == nil {
		s.unread = map[*unread]bool{}
	}
	s.bytes, s.unread[u], u.waiting = s.bytes+len(u.body), true, time.Now()
}

func (s *answers) progress(u *unread) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.waiting = time.Now()
}

func (s *answers) end(u *unread) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(u)
}

func (s *answers) remove(u *unread) {
	if s.unread[u] {
		s.bytes -= len(u.body)
		delete(s.unread, u)
	}
}
