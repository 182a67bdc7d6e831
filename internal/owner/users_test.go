package owner

import (
	"errors"
	"os"
	"os/user"
	"testing"
	"testing/synctest"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

func TestUsersAreLookedUpOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	u := newUsers(nil, nil)
	u.now = func() time.Time { return now }
	calls := 0
	u.lookUp = func(uint32) (string, error) { calls++; return "", user.UnknownUserIdError(1234) }
	for range 3 {
		if name, known, due := u.name(1234); !due || known != (calls > 0) || name != "1234" {
			t.Errorf("after %d calls: %q, known %t, due %t", calls, name, known, due)
		}
		u.refresh(t.Context(), []uint32{1234})
		if _, _, due := u.name(1234); due {
			t.Error("it is due at once")
		}
		now = now.Add(keepUser)
	}
	if calls != 3 {
		t.Errorf("%d look-ups", calls)
	}
}

// TestNameThatCannotBeRead has a file of users that cannot be read: the user may have
// a name, so its number is not judged as one.
func TestNameThatCannotBeRead(t *testing.T) {
	u := newUsers(func(uint32) (string, error) { return "", os.ErrPermission }, nil)
	u.refresh(t.Context(), []uint32{33})
	if name, known, due := u.name(33); known || !due || name != "33" {
		t.Errorf("%q, known %t, due %t", name, known, due)
	}
}

// TestNamesOutliveTheNameService has a name service that fails, and one that
// says that the user is gone.
func TestNamesOutliveTheNameService(t *testing.T) {
	u := newUsers(nil, nil)
	var err error
	u.lookUp = func(uint32) (string, error) { return "alice", err }
	for _, tt := range []struct {
		err  error
		want string
	}{{nil, "alice"}, {errors.New("connection refused"), "alice"}, {user.UnknownUserIdError(7), "7"}} {
		err = tt.err
		u.refresh(t.Context(), []uint32{7})
		if name, known, _ := u.name(7); name != tt.want || !known {
			t.Errorf("%v: %q, known %t", tt.err, name, known)
		}
	}
}

// TestHungNameService has a name service that answers after forty seconds for one
// user, as LDAP without its server does.
func TestHungNameService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{holders: map[uint64]Process{1: proc(10, "nginx"), 2: proc(20, "slapd")}}
		slow := h.holders[2]
		slow.UID = 1000
		h.holders[2] = slow
		f := New(h, quiet)
		f.users.lookUp = func(uid uint32) (string, error) {
			if uid == 1000 {
				time.Sleep(40 * time.Second)
			}
			return map[uint32]string{33: "www-data", 1000: "alice"}[uid], nil
		}
		both := []socket.Listener{listener(80, 1), listener(389, 2)}
		for i, longest := range []time.Duration{userPatience, 0, 0} {
			r, took := within(t, time.Minute, f, both...)
			if o := r.Owned[0].Owner; o.User != "www-data" || o.Pending {
				t.Errorf("call %d: the other user: %+v", i, o)
			}
			if o := r.Owned[1].Owner; o.User != "1000" || o.Process != "slapd" || !o.Pending || r.Pending != 1 || r.Busy {
				t.Errorf("call %d: %+v", i, r)
			}
			if took > longest {
				t.Errorf("call %d took %v, want at most %v", i, took, longest)
			}
		}
		time.Sleep(40 * time.Second)
		if r, _ := within(t, time.Minute, f, both...); r.Owned[1].Owner.User != "alice" || r.Pending != 0 {
			t.Errorf("after the answer: %+v", r)
		}
	})
}
