package owner

import (
	"context"
	"errors"
	"os/user"
	"strconv"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/panics"
)

// How long the name of a user is kept, how many are, and how long an answer may
// take: a build with cgo asks the name service (nsswitch.conf(5)), and that may
// ask the network.
const (
	keepUser     = 5 * time.Minute
	maxUsers     = 8192
	userPatience = time.Second
)

// users resolves the numbers of users, one at a time. It is safe for concurrent
// use; name never waits.
type users struct {
	lookUp func(uid uint32) (string, error)
	now    func() time.Time
	calls  *beside.Calls

	mu    sync.Mutex
	names map[uint32]userName
}

type userName struct {
	name  string
	since time.Time
}

func newUsers(lookUp func(uid uint32) (string, error), panicked func(*panics.Error)) *users {
	calls := beside.New(beside.Limits{All: 1, Patience: userPatience}, panicked)
	return &users{lookUp: lookUp, now: time.Now, calls: calls, names: map[uint32]userName{}}
}

// name returns the name of a user, or the number of one without a name. Until
// the name is known it is the number as well, and known is false. due reports
// whether it should be refreshed.
func (u *users) name(uid uint32) (name string, known, due bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, known := u.names[uid]
	if !known {
		return number(uid), false, true
	}
	return n.name, true, u.now().Sub(n.since) >= keepUser
}

// refresh looks names up for at most a moment. What does not answer in time
// stays as it is.
func (u *users) refresh(ctx context.Context, uids []uint32) {
	ctx, cancel := context.WithTimeout(ctx, userPatience)
	defer cancel()
	for _, uid := range uids {
		look := func() struct{} { u.store(uid); return struct{}{} }
		if _, ok := attempt(ctx, u.calls, beside.Key{Name: "user"}, look); !ok {
			return
		}
	}
}

// store looks a name up and keeps it. When the name service fails, a name that is
// known stays, and one that is not remains unknown.
func (u *users) store(uid uint32) {
	name, err := u.lookUp(uid)
	u.mu.Lock()
	defer u.mu.Unlock()
	var unknown user.UnknownUserIdError
	switch old, known := u.names[uid]; {
	case errors.As(err, &unknown):
		name = number(uid)
	case err != nil && !known:
		return // it may have a name: that is not known
	case err != nil:
		name = old.name
	}
	for other := range u.names {
		if len(u.names) < maxUsers {
			break
		}
		delete(u.names, other)
	}
	u.names[uid] = userName{name, u.now()}
}

func number(uid uint32) string { return strconv.FormatUint(uint64(uid), 10) }
