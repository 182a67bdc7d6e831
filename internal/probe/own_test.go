package probe

import (
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestOwnListeners(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIP-SOCKDIAG: sockets have an identity on Linux only")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ids := socketIDs(l.(*net.TCPListener))
	if len(ids) != 2 {
		t.Fatalf("%d identities, want the cookie and the inode", len(ids))
	}
	var none *OwnListeners
	none.Add(l)()
	if none.Has(ids[0]) {
		t.Error("a set that is not there has something")
	}
	synctest.Test(t, func(t *testing.T) {
		own := &OwnListeners{}
		if own.Has(ids[0]) || own.Has(0) {
			t.Error("an empty set has something")
		}
		closed := own.Add(l)
		for _, id := range ids {
			if !own.Has(id) {
				t.Errorf("lacks %d", id)
			}
		}
		closed()
		if !own.Has(ids[0]) {
			t.Error("it is forgotten at once")
		}
		time.Sleep(linger + time.Second)
		own.set(nil, time.Time{})
		if own.Has(ids[0]) || len(own.ids) != 0 {
			t.Error("it is not forgotten")
		}
	})
}
