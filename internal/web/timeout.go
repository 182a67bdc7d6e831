package web

import (
	"fmt"
	"strconv"
	"time"
)

const (
	// defaultTimeout is for clients that name none; it is Prometheus' own.
	defaultTimeout = 10 * time.Second
	// longestTimeout bounds what a client may ask for.
	longestTimeout = 10 * time.Minute
)

// scrapeTimeout returns how long a scrape may take, from the header in which
// Prometheus says when it will give up, in seconds. The offset leaves time to
// send the answer; it never takes more than half.
func scrapeTimeout(header string, offset time.Duration) (time.Duration, error) {
	if header == "" {
		return defaultTimeout, nil
	}
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil || !(seconds > 0) {
		return 0, fmt.Errorf("X-Prometheus-Scrape-Timeout-Seconds: %q is not a number of seconds above 0", header)
	}
	timeout := longestTimeout
	if seconds < longestTimeout.Seconds() {
		timeout = time.Duration(seconds * float64(time.Second))
	}
	return timeout - min(offset, timeout/2), nil
}
