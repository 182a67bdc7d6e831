package web

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/port-exporter/port_exporter/internal/panics"
)

// guarded makes a panic of a handler its answer 500, and logs it with its stack. If a
// part has been sent already the connection is closed, so that no client takes it for
// the whole.
func guarded(handler http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := &sentinel{ResponseWriter: w}
		defer func() {
			panicked := panics.Recovered(recover())
			if panicked == nil {
				return
			}
			if err, ok := panicked.Value.(error); ok && errors.Is(err, http.ErrAbortHandler) { // it wants the connection closed
				panic(err)
			}
			panics.Log(logger.With("path", r.URL.Path), "request handler", panicked)
			a, inMemory := w.(*answer)
			if sent.begun && !inMemory {
				panic(http.ErrAbortHandler)
			}
			if inMemory {
				a.discard()
			}
			w.Header().Del("Content-Encoding")
			http.Error(w, "the exporter has a fault, which is in its log", http.StatusInternalServerError)
		}()
		handler.ServeHTTP(sent, r)
	})
}

// sentinel notes that an answer has begun.
type sentinel struct {
	http.ResponseWriter
	begun bool
}

// Unwrap is for [http.ResponseController].
func (s *sentinel) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (s *sentinel) WriteHeader(status int) {
	s.begun = true
	s.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (s *sentinel) Write(p []byte) (int, error) {
	s.begun = true
	return s.ResponseWriter.Write(p)
}
