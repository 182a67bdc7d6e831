package gate

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/port-exporter/port_exporter/internal/netaddr"
)

// maxKnown bounds the passwords that are remembered. Only right ones are, so that
// no number of wrong ones makes a scrape wait.
const maxKnown = 1000

// known are passwords that were right, each with its user and hash.
type known struct {
	mu   sync.Mutex
	sums map[[sha256.Size]byte]bool
}

func (k *known) has(sum [sha256.Size]byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sums[sum]
}

func (k *known) add(sum [sha256.Size]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sums == nil || len(k.sums) >= maxKnown {
		k.sums = map[[sha256.Size]byte]bool{}
	}
	k.sums[sum] = true
}

// knows reports whether a request has the name and the password of a user. It takes
// as long for a name that there is not. Passwords are compared one at a time, as
// that takes a core; who cannot wait is not known.
func (g *Gate) knows(r *http.Request, rules *rules) bool {
	name, password, ok := r.BasicAuth()
	if !ok {
		return false
	}
	hash, exists := rules.Users[name]
	if !exists {
		for _, hash = range rules.Users { // any will do
			break
		}
	}
	sum := sha256.Sum256([]byte(name + "\x00" + string(hash) + "\x00" + password))
	if exists && g.knocked.has(sum) {
		return true
	}
	done, ok := g.turns.wait(r.Context(), netaddr.Client(r.RemoteAddr))
	if !ok {
		return false
	}
	defer done()
	right := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
	if right && exists {
		g.knocked.add(sum)
	}
	return right && exists
}

// turns let one password be compared at a time, and the clients take turns: one that
// sends many waits behind itself, and not in front of the others.
type turns struct {
	hashing chan struct{}

	mu      sync.Mutex
	clients map[netip.Prefix]*turn
}

// turn is held by one request of a client, for which others of the client wait.
type turn struct {
	held     chan struct{}
	requests int // that hold it or wait for it
}

func newTurns() *turns {
	return &turns{hashing: make(chan struct{}, 1), clients: map[netip.Prefix]*turn{}}
}

// wait waits for the turn of a client, which ends with done. False means that ctx
// ended first.
func (t *turns) wait(ctx context.Context, client netip.Prefix) (done func(), ok bool) {
	own := t.enter(client)
	for i, held := range []chan struct{}{own.held, t.hashing} {
		select {
		case held <- struct{}{}:
		case <-ctx.Done():
			if i > 0 {
				<-own.held
			}
			t.leave(client, own)
			return nil, false
		}
	}
	return func() { <-t.hashing; <-own.held; t.leave(client, own) }, true
}

func (t *turns) enter(client netip.Prefix) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.clients[client]
	if own == nil {
		own = &turn{held: make(chan struct{}, 1)}
		t.clients[client] = own
	}
	own.requests++
	return own
}

func (t *turns) leave(client netip.Prefix, own *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own.requests--; own.requests == 0 {
		delete(t.clients, client)
	}
}
