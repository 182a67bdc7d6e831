package firewall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/kernel"
)

// Reader reads the rules of the network namespace that it is used in. It keeps them until
// the kernel has a new generation of them, so that most reads are one small request.
type Reader struct {
	procfs string

	mu         sync.Mutex
	generation uint32
	readAt     time.Time
	kept       *Ruleset // without what changes beside the rules
	last       *Ruleset // as it was returned
	late       late
}

// late is when which rules could not be read in time.
type late struct {
	generation uint32
	at         time.Time
}

// NewReader returns a reader, with procfs at the given place.
func NewReader(procfs string) *Reader { return &Reader{procfs: procfs} }

const (
	// readTimeout bounds a read. The kernel takes ever longer for each element of a large
	// set: 8 s for 100,000, and 25 s for 200,000.
	readTimeout = 5 * time.Second
	// lateRetry is how long rules are not read again that took a good part of that.
	lateRetry = time.Minute
	// attempts is how often a read starts again because the rules have changed.
	attempts = 4
	// maxAge is how long sets are believed that change without a new generation.
	maxAge = 10 * time.Second
)

var errChanging = errors.New("firewall rules changed during each read of them")

// Read returns the rules. The error may be [ErrPrivilege] or [ErrLate].
func (r *Reader) Read(ctx context.Context) (*Ruleset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rules, err := r.read(ctx)
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%w: %w", ErrPrivilege, err)
	case err != nil:
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return rules, nil
}

func (r *Reader) read(ctx context.Context) (*Ruleset, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline := time.Now().Add(readTimeout)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	for range attempts {
		before, err := generation(conn)
		if errors.Is(err, errors.ErrUnsupported) { // then there are no rules of nftables
			return r.complete(newRuleset(nil, nil))
		}
		if err != nil {
			return nil, err
		}
		if r.kept != nil && before == r.generation && (!r.kept.volatile || time.Since(r.readAt) < maxAge) {
			return r.complete(r.kept)
		}
		if before == r.late.generation && time.Since(r.late.at) < lateRetry {
			return nil, ErrLate
		}
		at := time.Now()
		rules, err := readRules(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if time.Since(at) > readTimeout/2 {
				r.late = late{before, time.Now()}
			}
			return nil, ErrLate
		}
		if err != nil && !errors.Is(err, errInterrupted) && !errors.Is(err, unix.ENOENT) { // a set that is gone
			return nil, err
		}
		after, genErr := generation(conn)
		if genErr != nil {
			return nil, genErr
		}
		if err == nil && before == after {
			r.kept, r.generation, r.readAt = rules, after, at
			return r.complete(rules)
		}
	}
	return nil, errChanging
}

// complete returns a copy of rules with what changes without them.
func (r *Reader) complete(rules *Ruleset) (*Ruleset, error) {
	now := *rules
	now.of = rules
	var err error
	if now.devices, err = kernel.Devices(); err != nil {
		return nil, err
	}
	for i, file := range []string{"ip_tables_names", "ip6_tables_names"} {
		now.others[i] = r.legacy(file)
	}
	if last := r.last; last != nil && maps.Equal(last.devices, now.devices) && last.others == now.others && last.of == rules {
		return last, nil
	}
	now.kept = now.newKept()
	r.last = &now
	return &now, nil
}

// legacy returns what rules of iptables-legacy there may be. The file is there if the kernel
// has them at all, and lists the tables that have been used.
func (r *Reader) legacy(file string) string {
	text, err := os.ReadFile(filepath.Join(r.procfs, "thread-self/net", file))
	tables := strings.Fields(string(text))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		return "whether there are rules of iptables-legacy is unknown, " + file + " cannot be read"
	case len(tables) > 0:
		return "rules of iptables-legacy are not read (tables " + strings.Join(tables, ", ") + ")"
	default:
		return ""
	}
}

// request returns a request of nftables.
func request(kind int, flags netlink.HeaderFlags, attributes []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append(make([]byte, headerLength), attributes...),
	}
}

// generation returns the number of the rules that are in force: each transaction adds one.
func generation(conn *netlink.Conn) (id uint32, err error) {
	messages, err := conn.Execute(request(unix.NFT_MSG_GETGEN, 0, nil))
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT):
		return 0, errors.ErrUnsupported
	case err != nil:
		return 0, err
	}
	const identifier = 1 // NFTA_GEN_ID
	for _, m := range messages {
		if err := attributes(m.Data, func(_ Family, ad *netlink.AttributeDecoder) {
			if ad.Type() == identifier {
				id = ad.Uint32()
			}
		}); err != nil {
			return 0, err
		}
	}
	return id, nil
}

var errInterrupted = errors.New("firewall rules changed during the read")

// dump calls each for every message that answers a request.
func dump(conn *netlink.Conn, ask netlink.Message, each func(message []byte) error) error {
	messages, err := conn.Execute(ask)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 {
			return errInterrupted
		}
		if len(m.Data) < headerLength {
			continue // the end of the dump
		}
		if err := each(m.Data); err != nil {
			return err
		}
	}
	return nil
}

// readRules reads tables, chains, rules, and the sets that they use.
func readRules(conn *netlink.Conn) (*Ruleset, error) {
	l := listing{dormant: map[key]bool{}, chains: map[key]*chain{}, used: map[key]bool{}}
	for _, part := range []struct {
		kind int
		each func([]byte) error
	}{{unix.NFT_MSG_GETTABLE, l.table}, {unix.NFT_MSG_GETCHAIN, l.chain}, {unix.NFT_MSG_GETRULE, l.rule}, {unix.NFT_MSG_GETSET, l.set}} {
		if err := dump(conn, request(part.kind, netlink.Dump, nil), part.each); err != nil {
			return nil, err
		}
	}
	for _, h := range l.sets {
		if err := l.elements(conn, h); err != nil {
			return nil, err
		}
	}
	return newRuleset(l.order, l.whole), nil
}

// listing is what was read so far.
type listing struct {
	dormant map[key]bool
	chains  map[key]*chain
	order   []*chain
	used    map[key]bool // sets
	sets    []*setHeader
	whole   []*set
}

func (l *listing) table(message []byte) error {
	table, dormant, err := dormantTable(message)
	if dormant {
		l.dormant[table] = true
	}
	return err
}

func (l *listing) chain(message []byte) error {
	c, err := decodeChain(message)
	if err != nil {
		return err
	}
	if l.dormant[key{family: c.family, table: c.table}] {
		c.hook = noHook
	}
	l.chains[c.key] = c
	l.order = append(l.order, c)
	return nil
}

func (l *listing) rule(message []byte) error {
	in, r, err := decodeRule(message)
	if err != nil {
		return err
	}
	c := l.chains[in]
	if c == nil {
		return errInterrupted // a chain that was added
	}
	for i := range r.exprs[:r.lastEffect+1] {
		if e := &r.exprs[i]; e.kind == lookup {
			l.used[key{in.family, in.table, e.set}] = true
		}
	}
	c.rules = append(c.rules, r)
	return nil
}

func (l *listing) set(message []byte) error {
	h, err := decodeSet(message)
	if err == nil && l.used[h.key] {
		l.sets = append(l.sets, h)
	}
	return err
}

// elementsRequest asks for the elements of a set.
func elementsRequest(h *setHeader) (netlink.Message, error) {
	with, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: append([]byte(h.table), 0)},
		{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: append([]byte(h.name), 0)},
	})
	ask := request(unix.NFT_MSG_GETSETELEM, netlink.Dump, with)
	ask.Data[0] = byte(h.family)
	return ask, err
}

func (l *listing) elements(conn *netlink.Conn, h *setHeader) error {
	ask, err := elementsRequest(h)
	if err != nil {
		return err
	}
	var all []rawElement
	obscure := ""
	err = dump(conn, ask, func(message []byte) error {
		some, what, err := decodeElements(message)
		all, obscure = append(all, some...), cmp.Or(obscure, what)
		return err
	})
	if err != nil {
		return fmt.Errorf("set %v: %w", h.key, err)
	}
	l.whole = append(l.whole, h.set(all, obscure))
	return nil
}
