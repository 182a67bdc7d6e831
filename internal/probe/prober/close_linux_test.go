package prober

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestCloseResetInNamespace counts the sockets that a probe leaves in TIME_WAIT:
// some where it closes in the ordinary way, and none where it resets.
func TestCloseResetInNamespace(t *testing.T) {
	porttest.Namespace(t)
	ca := newAuthority(t)
	plain := startServer(t, "tcp", "127.0.0.1:0", hold)
	certificate := ca.issue(t, "name.example", time.Now().Add(time.Hour))
	secured := startServer(t, "tcp", "127.0.0.1:0", underTLS(serverConfig(certificate), hold))
	for _, tc := range []struct {
		name    string
		prober  TCP
		address string
		leaves  bool
	}{
		{"rst", TCP{CloseReset: true}, plain, false},
		{"rst, TLS", TCP{CloseReset: true, Conversation: Conversation{TLS: true, TLSConfig: ca.trusting()}}, secured, false},
		{"fin", TCP{}, plain, true},
	} {
		// No subtest: the namespace is that of this thread.
		before := inState(t, timeWait)
		m := probe.Module{Prober: &tc.prober, Timeout: 5 * time.Second}
		if got := m.Probe(t.Context(), probe.Request{Address: tc.address, Hostname: "name.example"}); got.Outcome != probe.Open {
			t.Fatalf("%s: %s: %v", tc.name, got.Outcome, got.Err)
		}
		for range 500 { // until the server's end is closed too
			if inState(t, timeWait)+inState(t, stateListen) == sockets(t) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if left := inState(t, timeWait) - before; (left > 0) != tc.leaves || sockets(t) != inState(t, timeWait)+inState(t, stateListen) {
			t.Errorf("%s: %d sockets are left in TIME_WAIT, wanted some: %v\n%s", tc.name, left, tc.leaves, strings.Join(table(t), "\n"))
		}
	}
}

// States of net/tcp_states.h, as /proc/net/tcp writes them.
const (
	timeWait    = "06"
	stateListen = "0A"
)

// table returns the lines of /proc/net/tcp of the thread's namespace.
func table(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")[1:]
}

func sockets(t *testing.T) int { return len(table(t)) }

func inState(t *testing.T, state string) int {
	t.Helper()
	n := 0
	for _, line := range table(t) {
		if strings.Fields(line)[3] == state {
			n++
		}
	}
	return n
}
