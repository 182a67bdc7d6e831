package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestTakesGzip(t *testing.T) {
	for _, tt := range []struct {
		fields []string
		want   bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"identity"}, false},
		{[]string{"x-gzip"}, false},
		{[]string{"gzip;q=0"}, false},
		{[]string{"gzip;q=x"}, false},
		{[]string{"gzip;q"}, false},
		{[]string{"*, gzip;q=0.000"}, false},
		{[]string{"br", "zstd, *;q=0"}, false},
		{[]string{"gzip"}, true},
		{[]string{"GZIP"}, true},
		{[]string{"deflate, gzip;q=0.5"}, true},
		{[]string{"br", " gzip ; q=1"}, true},
		{[]string{"*"}, true},
		{[]string{"gzip, *;q=0"}, true},
	} {
		if got := takesGzip(tt.fields); got != tt.want {
			t.Errorf("%q: %t, want %t", tt.fields, got, tt.want)
		}
	}
}

// TestCompressed scrapes many series: a client that takes gzip gets what any other gets.
// Answers of a few bytes, and errors, are not compressed.
func TestCompressed(t *testing.T) {
	h := handler(t, func(o *Options) {
		o.Scrape = func(_ context.Context, s Selection) (prometheus.Gatherer, error) {
			switch {
			case slices.Contains(s.Collectors, "few"):
				return one(t.Context(), s)
			case slices.Contains(s.Collectors, "wrong"):
				return nil, errors.New(strings.Repeat("wrong ", leastCompressed))
			}
			vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "port_sockets", Help: "Many."}, []string{"state"})
			for i := range 2000 { // more than one block of a compressor
				vec.WithLabelValues(strings.Repeat("x", i%100)).Set(float64(i))
			}
			r := prometheus.NewRegistry()
			r.MustRegister(vec)
			return r, nil
		}
	})
	ask := func(target string) (body []byte, encoding string) {
		r := httptest.NewRequest("GET", target, nil)
		r.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !strings.Contains(strings.Join(w.Header().Values("Vary"), ","), "Accept-Encoding") && target != "/" {
			t.Errorf("%s: Vary: %q", target, w.Header().Values("Vary"))
		}
		return w.Body.Bytes(), w.Header().Get("Content-Encoding")
	}
	_, want := do(h, "GET", "/metrics")
	zipped, encoding := ask("/metrics")
	if encoding != "gzip" || len(zipped) >= len(want) {
		t.Fatalf("encoding %q, %d bytes in place of %d", encoding, len(zipped), len(want))
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("not what was compressed (-want +got):\n%s", diff)
	}
	for _, target := range []string{"/metrics?collect[]=few", "/metrics?collect[]=wrong", "/probe", "/"} {
		if body, encoding := ask(target); encoding != "" {
			t.Errorf("%s: %d bytes are %s", target, len(body), encoding)
		}
	}
}
