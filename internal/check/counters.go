package check

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// counters are those of this network namespace which show that it is this host that
// makes a target silent.
type counters struct {
	// unsent are retransmitted segments that did not leave: TCPRetransFail. A rule of
	// an output hook that drops gives connect(2) no error.
	unsent uint64
	// reversed are packets that the reverse path filter discarded: IPReversePathFilter.
	reversed uint64
}

// netstat has the counters of the network namespace of the thread (Linux).
const netstat = "/proc/thread-self/net/netstat"

// readCounters returns the counters, all 0 where they are unknown.
func readCounters() counters {
	file, err := os.Open(netstat)
	if err != nil {
		return counters{}
	}
	defer file.Close()
	return parseCounters(file)
}

// maxNetstat bounds a line of it, in bytes; there are some 130 counters.
const maxNetstat = 64 << 10

// parseCounters reads a file of pairs of lines: names, and values.
func parseCounters(file io.Reader) (c counters) {
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxNetstat)
	for lines.Scan() {
		names := strings.Fields(lines.Text())
		if !lines.Scan() {
			return c
		}
		values := strings.Fields(lines.Text())
		for name, into := range map[string]*uint64{"TCPRetransFail": &c.unsent, "IPReversePathFilter": &c.reversed} {
			if i := slices.Index(names, name); i > 0 && i < len(values) {
				*into, _ = strconv.ParseUint(values[i], 10, 64)
			}
		}
	}
	return c
}

// since returns how much was counted since an earlier moment.
func (c counters) since(before counters) counters {
	return counters{c.unsent - min(c.unsent, before.unsent), c.reversed - min(c.reversed, before.reversed)}
}
