package web

import (
	"net/http"
	"net/http/pprof"
	"time"
)

// longestProfile is how long a profile may take; the parameter seconds chooses less.
const longestProfile = 2 * time.Minute

// addProfiles serves profiles of the process below a path. They show its flags and the
// code that it runs, and cost it CPU time while they run.
func addProfiles(mux *http.ServeMux, path string) {
	timed := func(handler http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			Allow(w, r, longestProfile)
			handler(w, r)
		}
	}
	mux.HandleFunc("GET "+path, pprof.Index)
	mux.HandleFunc("GET "+path+"cmdline", pprof.Cmdline)
	mux.HandleFunc("GET "+path+"symbol", pprof.Symbol)
	mux.HandleFunc("GET "+path+"profile", timed(pprof.Profile))
	mux.HandleFunc("GET "+path+"trace", timed(pprof.Trace))
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		mux.Handle("GET "+path+name, timed(pprof.Handler(name).ServeHTTP))
	}
}
