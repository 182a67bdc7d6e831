package web

import (
	"bytes"
	"cmp"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// leastCompressed is how long an answer must be to be compressed, in bytes: a shorter
// one fits into a packet.
const leastCompressed = 1024

// compressed compresses the metrics that a handler answers, for clients that take gzip,
// as Prometheus does. The handler is one of answers.sent.
//
// The answer is in memory, so no state of a compressor is kept: promhttp's takes eight
// times the CPU for an answer that is a sixth smaller, and 0.8 MB (docs/performance.md).
func compressed(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		handler.ServeHTTP(w, r)
		a, inMemory := w.(*answer)
		if inMemory && a.status == http.StatusOK && a.body.Len() >= leastCompressed && takesGzip(r.Header.Values("Accept-Encoding")) {
			a.compress()
		}
	})
}

func (a *answer) compress() {
	var body bytes.Buffer
	w, _ := gzip.NewWriterLevel(&body, gzip.StatelessCompression)
	_, _ = w.Write(a.body.Bytes()) // a buffer takes everything
	_ = w.Close()
	a.header.Set("Content-Encoding", "gzip")
	a.body = body
}

// takesGzip reports whether a client wants gzip, by the fields Accept-Encoding of its
// request (RFC 9110, section 12.5.3).
func takesGzip(fields []string) bool {
	takes := false
	for coding := range strings.SplitSeq(strings.Join(fields, ","), ",") {
		name, parameters, err := mime.ParseMediaType(coding)
		if err != nil || name != "gzip" && name != "*" {
			continue
		}
		weight, err := strconv.ParseFloat(cmp.Or(parameters["q"], "1"), 64)
		takes = err == nil && weight > 0
		if name == "gzip" {
			break
		}
	}
	return takes
}
