package porttest

import (
	"testing"
	"time"
)

// Await polls until what it waits for is there. It waits long: on a loaded
// machine of two cores a server may take many seconds to start.
func Await(t testing.TB, what string, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if there() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}
