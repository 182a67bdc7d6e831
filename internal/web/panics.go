package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// guarded makes a panic of a handler its answer 500, and logs it with its stack. If a
// part has been sent already the connection is closed, so that no client takes it for
// the whole.
func guarded(handler http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := &sentinel{ResponseWriter: w}
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) { // it wants the connection closed
				panic(v)
			}
			logger.Error("request handler panicked, please report this", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
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
