package web

import (
	"fmt"
	"strconv"
	"time"
)

const (
	// defaultTimeout is for clients that name none; it is Prometheus' own.
	defaultTimeout = 10 * time.Second
	// longestScrape bounds what a client may ask for: a scrape that takes longer is of
	// no use to Prometheus, whose queries look back five minutes.
	longestScrape = time.Minute
)

// TimeoutHeader is where Prometheus says when it will give up, in seconds.
const TimeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// Timeout returns how long a request may take, from its [TimeoutHeader], up to the
// longest; without one it is the time given. The offset leaves time to send the answer;
// it never takes more than half.
func Timeout(header string, without, longest, offset time.Duration) (time.Duration, error) {
	if header == "" {
		return without, nil
	}
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil || !(seconds > 0) {
		return 0, fmt.Errorf(TimeoutHeader+": %q is not a number of seconds above 0", header)
	}
	timeout := longest
	if seconds < longest.Seconds() {
		timeout = time.Duration(seconds * float64(time.Second))
	}
	return timeout - min(offset, timeout/2), nil
}
