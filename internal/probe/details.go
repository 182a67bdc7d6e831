package probe

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Details takes what a person wants to know of a probe beyond its result: who
// resolved its name, what each connection was like, what TLS agreed on. The context of
// a probe carries it. A nil *Details takes nothing; the others are safe for concurrent
// use.
type Details struct {
	// Resolved, if not nil, is called with each lookup as soon as it is over.
	Resolved func(Lookup)

	mu          sync.Mutex
	lookups     []Lookup
	connections []Connection
	handshakes  []Handshake
}

// maxDetails bounds each list: a target that redirects in a circle has many.
const maxDetails = 64

// Lookup is the resolution of a name.
type Lookup struct {
	Host      string
	Addresses []netip.Addr // the preferred ones first
	Duration  time.Duration
	Answers   []NameAnswer // of name servers; none where no name server was asked
	Err       error
}

// NameAnswer is a question to a name server, and what became of it.
type NameAnswer struct {
	Server    string // host:port
	Name      string // with the search domain that was tried
	Type      string // A or AAAA
	Code      string // NOERROR, NXDOMAIN, …; empty without an answer
	Aliases   []string
	Addresses []netip.Addr
	Duration  time.Duration // until the answer
}

// Connection is the making of a TCP connection.
type Connection struct {
	From, To    netip.AddrPort
	Duration    time.Duration
	Retransmits int           // of the SYN
	RoundTrip   time.Duration // 0 if it was not measured
	MSS         int           // bytes of a segment to the peer; 0 if unknown
	Err         error
}

// Handshake is what TLS agreed on, as far as it came.
type Handshake struct {
	ServerName   string
	Version      uint16 // 0 if there was none
	Cipher       uint16
	Protocol     string              // of ALPN
	Certificates []*x509.Certificate // that the server sent, its own first
	AskedForOurs bool                // the server asked for a client certificate
	Duration     time.Duration
	Err          error
}

type detailsKey struct{}

// WithDetails returns a context whose probes note their details.
func WithDetails(ctx context.Context, d *Details) context.Context {
	return context.WithValue(ctx, detailsKey{}, d)
}

// DetailsOf returns what takes the details of a probe; nil if none are wanted.
func DetailsOf(ctx context.Context) *Details {
	d, _ := ctx.Value(detailsKey{}).(*Details)
	return d
}

// AddLookup notes a resolution.
func (d *Details) AddLookup(l Lookup) {
	if d == nil {
		return
	}
	add(d, &d.lookups, l)
	if d.Resolved != nil {
		d.Resolved(l)
	}
}

// AddConnection notes a connection.
func (d *Details) AddConnection(c Connection) {
	if d != nil {
		add(d, &d.connections, c)
	}
}

// AddHandshake notes a handshake.
func (d *Details) AddHandshake(h Handshake) {
	if d != nil {
		add(d, &d.handshakes, h)
	}
}

func add[T any](d *Details, list *[]T, item T) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(*list) < maxDetails {
		*list = append(*list, item)
	}
}

// Lookups returns the resolutions, in the order of their ends.
func (d *Details) Lookups() []Lookup { return list(d, &d.lookups) }

// Connections returns the connections, in the order of their ends.
func (d *Details) Connections() []Connection { return list(d, &d.connections) }

// Handshakes returns the handshakes, in the order of their ends.
func (d *Details) Handshakes() []Handshake { return list(d, &d.handshakes) }

func list[T any](d *Details, of *[]T) []T {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(*of)
}
