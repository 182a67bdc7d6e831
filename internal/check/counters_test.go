package check

import (
	"strings"
	"testing"
)

func TestParseCounters(t *testing.T) {
	for _, tt := range []struct {
		text string
		want counters
	}{
		{"", counters{}},
		{"TcpExt: TCPRetransFail\n", counters{}},
		{"TcpExt: IPReversePathFilter TCPRetransFail\nTcpExt: 5\n", counters{reversed: 5}},
		{"TcpExt: TCPRetransFail\nTcpExt: -1\n", counters{}},
		{"TcpExt: X IPReversePathFilter TCPRetransFail\nTcpExt: 1 5 7\nIpExt: InNoRoutes\nIpExt: 3\n", counters{unsent: 7, reversed: 5}},
	} {
		if got := parseCounters(strings.NewReader(tt.text)); got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.text, got, tt.want)
		}
	}
	if got := (counters{7, 5}).since(counters{3, 6}); got != (counters{unsent: 4}) {
		t.Errorf("%+v", got)
	}
}
