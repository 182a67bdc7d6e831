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

// TimeoutHeader is where Prometheus says when it will give up, in seconds.
const TimeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// Timeout returns how long a scrape may take, from its [TimeoutHeader]; without
// one it is the time given. The offset leaves time to send the answer; it never
// takes more than half.
func Timeout(header string, without, offset time.Duration) (time.Duration, error) {
	if header == "" {
		return without, nil
	}
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil || !(seconds > 0) {
		return 0, fmt.Errorf(TimeoutHeader+": %q is not a number of seconds above 0", header)
	}
	timeout := longestTimeout
	if seconds < longestTimeout.Seconds() {
		timeout = time.Duration(seconds * float64(time.Second))
	}
	return timeout - min(offset, timeout/2), nil
}
