package gate

import (
	"crypto/sha256"
	"net/http"
	"sync"

	"golang.org/x/crypto/bcrypt"
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
	select {
	case g.hashing <- struct{}{}:
		defer func() { <-g.hashing }()
	case <-r.Context().Done():
		return false
	}
	right := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
	if right && exists {
		g.knocked.add(sum)
	}
	return right && exists
}
