package porttest

import (
	"net"
	"testing"
)

// Serve serves each connection of a listener in a goroutine, and closes it. The
// listener is closed when the test ends.
func Serve(t testing.TB, l net.Listener, serve func(net.Conn)) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}
