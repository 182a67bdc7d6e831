package trace

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// method is what is sent.
type method uint8

const (
	syn method = iota
	datagram
	echo // by an unprivileged socket of icmp(7); where that is not allowed, nothing
)

// question is a packet that is sent until it is answered.
type question struct {
	method method
	to     netip.AddrPort
	ttl    int    // 0 is the usual one
	size   int    // of the whole packet, for datagram and echo; 0 is that of data
	data   []byte // what it carries

	tries []time.Duration // when it is sent, from the first time on; nil is usualTries
	life  time.Duration   // how long each try waits for an answer; 0 is usualLife

	sent      int
	began     time.Time
	answer    *answer
	withdrawn bool
}

// answer is what came of a question.
type answer struct {
	roundTrip time.Duration
	err       error // nil if there is a connection or a reply
	icmp      probe.ICMPError
	sent      bool // a packet was sent
	segment   int  // how large the data of a packet of the connection may be; 0 if unknown
	mtu       int  // what the kernel holds for the path; 0 if unknown
}

// A try is over before the kernel would send its SYN again, after a second, so that each
// answer is to one packet. A router that sends an ICMP error a second, which is what
// Linux does once six were sent in a row, answers one of the tries.
const usualLife = 950 * time.Millisecond

func usualTries() []time.Duration {
	return []time.Duration{0, 500 * time.Millisecond, 1100 * time.Millisecond}
}

// finalLife is how long the answer to the packet with the usual TTL is waited for: a
// host that is down is reported after 3.06 s, when it has not answered three requests
// for its address.
const finalLife = 3500 * time.Millisecond

// finalTries says when that packet is sent. The kernel repeats a SYN itself.
func finalTries(m method) []time.Duration {
	if m == datagram {
		return []time.Duration{0, 500 * time.Millisecond}
	}
	return []time.Duration{0}
}

// String says what is asked.
func (q *question) String() string {
	switch q.method {
	case syn:
		return fmt.Sprintf("tcp/%d", q.to.Port())
	case datagram:
		return fmt.Sprintf("udp/%d", q.to.Port())
	default:
		return "ping"
	}
}

// isAnonymous reports whether the answer is an error that a router sent, and the kernel
// does not say which: for a SYN, one before Linux 5.9 does not.
func (q *question) isAnonymous() bool {
	return q.method == syn && q.answer != nil && q.answer.sent && errors.Is(q.answer.err, syscall.EHOSTUNREACH) && !q.answer.icmp.Offender.IsValid()
}

// withdraw takes a question back that is not answered.
func (q *question) withdraw() { q.withdrawn = q.withdrawn || q.answer == nil }

// isOpen reports whether an answer is still of interest.
func (q *question) isOpen() bool { return q.answer == nil && !q.withdrawn }

// due returns when the next try is to be sent; false if there is none.
func (q *question) due() (time.Time, bool) {
	if q.tries == nil {
		q.tries = usualTries()
	}
	if !q.isOpen() || q.sent == len(q.tries) {
		return time.Time{}, false
	}
	if q.sent == 0 {
		return time.Time{}, true
	}
	return q.began.Add(q.tries[q.sent]), true
}
