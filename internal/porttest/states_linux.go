package porttest

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// EveryState makes one TCP connection for each state that the kernel keeps in
// its table, with a server on address, which must have a port of its own, and
// returns how many sockets of each state there are now, by the name that ss(8)
// gives it. Every connection has both of its ends in this namespace.
func EveryState(t testing.TB, address string) map[string]int {
	t.Helper()
	listener := Listen(t, address, 16)

	Dial(t, address) // established at both ends
	Accept(t, listener)

	client := Dial(t, address) // FIN_WAIT2 here, CLOSE_WAIT there
	Accept(t, listener)
	CloseWrite(t, client)

	client = Dial(t, address) // the server closes first and keeps TIME_WAIT
	server := Accept(t, listener)
	CloseWrite(t, server)
	awaitFIN(t, client)
	CloseWrite(t, client)
	awaitFIN(t, server)

	client = Dial(t, address) // a FIN that waits behind data: FIN_WAIT1, established
	Accept(t, listener)
	Stuff(t, client)
	CloseWrite(t, client)

	client = Dial(t, address) // the same, with the peer's FIN there: LAST_ACK, FIN_WAIT2
	server = Accept(t, listener)
	CloseWrite(t, server)
	awaitFIN(t, client)
	Stuff(t, client)
	CloseWrite(t, client)

	client = Dial(t, address) // both FINs cross: CLOSING, and FIN_WAIT2 at the other end
	server = Accept(t, listener)
	Stuff(t, client)
	CloseWrite(t, client)
	CloseWrite(t, server)

	time.Sleep(50 * time.Millisecond) // loopback delivers in the caller, but for timers
	return map[string]int{
		"LISTEN": 1, "ESTAB": 3, "FIN-WAIT-1": 1, "FIN-WAIT-2": 3, "CLOSE-WAIT": 1,
		"TIME-WAIT": 1, "LAST-ACK": 1, "CLOSING": 1,
	}
}

// awaitFIN reads until the peer's FIN, which has no data before it, is there.
func awaitFIN(t testing.TB, fd int) {
	t.Helper()
	if n, err := unix.Read(fd, make([]byte, 1)); n != 0 || err != nil {
		t.Fatalf("read of a closed connection: %d, %v", n, err)
	}
}
