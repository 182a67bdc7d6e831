package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/port-exporter/port_exporter/internal/plain"
)

// slots bound how many requests make their answers concurrently. promhttp's own limit
// lives in its handler, and here each scrape has a handler of its own.
type slots struct {
	free chan struct{} // nil is no limit
	// busy is what a request is answered for which none became free.
	busy string
}

// patience is how long a request may wait for a slot. Slots are kept for the reading
// of the host only, so they come back soon.
const patience = 5 * time.Second

// maxPages is how many pages for people, and lists of targets, that read only what the
// exporter has in memory are made concurrently.
const maxPages = 8

// maxViews is how many pages that read the host are made concurrently. They have slots of
// their own: a thousand clients of pages make no scrape wait.
const maxViews = 4

func newSlots(n int, busy string) slots {
	s := slots{busy: busy}
	if n > 0 {
		s.free = make(chan struct{}, n)
	}
	return s
}

// take waits for a slot, in the order of those that wait. There is none if it returns
// false.
func (s slots) take(ctx context.Context, patience time.Duration) bool {
	if s.free == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case s.free <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s slots) give() {
	if s.free != nil {
		<-s.free
	}
}

// bound gives each request of a handler a slot while its answer is made.
func (s slots) bound(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait := patience
		if deadline, ok := r.Context().Deadline(); ok {
			wait = min(wait, time.Until(deadline)/2)
		}
		defer Work(r.Context())() // the client waits, not the server
		if !s.take(r.Context(), wait) {
			Refuse(w, s.busy)
			return
		}
		defer s.give()
		handler.ServeHTTP(w, r)
	})
}

// Refuse answers a request for which there is no room.
func Refuse(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, plain.Text(why), http.StatusServiceUnavailable)
}

// timely gives each request of a handler the deadline that Prometheus names.
func timely(handler http.Handler, offset time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout, err := Timeout(r.Header.Get(TimeoutHeader), defaultTimeout, longestScrape, offset)
		if err != nil {
			http.Error(w, plain.Text(err.Error()), http.StatusBadRequest)
			return
		}
		Allow(w, r, timeout)
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		handler.ServeHTTP(w, r.WithContext(ctx))
	})
}

// scrapeSlots are for the requests that read the host.
func scrapeSlots(n int) slots {
	return newSlots(n, fmt.Sprintf("%d scrapes are already running\nhint: raise --web.max-requests", n))
}

// pageSlots are for pages for people, and for lists of targets.
func pageSlots(n int) slots {
	return newSlots(n, fmt.Sprintf("too many requests, %d pages are in progress\nhint: retry", n))
}
