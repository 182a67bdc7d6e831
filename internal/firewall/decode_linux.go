package firewall

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What the kernel sends is decoded here and not by github.com/google/nftables (v0.3.0),
// which leaves out expressions that it does not know: a rule that accepts under a
// condition would look like one that accepts all. Here an attribute that is not known
// makes its expression one that may do anything.

// headerLength is the size of struct nfgenmsg.
const headerLength = 4

var errShort = errors.New("message is shorter than its header")

// attributes calls visit for each attribute of a message, behind its header.
func attributes(message []byte, visit func(family Family, ad *netlink.AttributeDecoder)) error {
	if len(message) < headerLength {
		return errShort
	}
	return decode(message[headerLength:], func(ad *netlink.AttributeDecoder) { visit(Family(message[0]), ad) })
}

// decode calls visit for each attribute.
func decode(b []byte, visit func(ad *netlink.AttributeDecoder)) error {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		visit(ad)
	}
	return ad.Err()
}

// nested calls visit for each attribute within one.
func nested(ad *netlink.AttributeDecoder, visit func(ad *netlink.AttributeDecoder)) {
	ad.Nested(func(inner *netlink.AttributeDecoder) error {
		inner.ByteOrder = binary.BigEndian
		for inner.Next() {
			visit(inner)
		}
		return inner.Err()
	})
}

// dormantTable returns the table of a message, if it is one whose chains are not called.
func dormantTable(message []byte) (table key, dormant bool, err error) {
	err = attributes(message, func(family Family, ad *netlink.AttributeDecoder) {
		table.family = family
		switch ad.Type() {
		case unix.NFTA_TABLE_NAME:
			table.table = ad.String()
		case unix.NFTA_TABLE_FLAGS:
			dormant = ad.Uint32()&unix.NFT_TABLE_F_DORMANT != 0
		}
	})
	return table, dormant, err
}

// decodeChain returns the chain of a message, without its rules.
func decodeChain(message []byte) (*chain, error) {
	c := &chain{hook: noHook}
	err := attributes(message, func(family Family, ad *netlink.AttributeDecoder) {
		c.family = family
		switch ad.Type() {
		case unix.NFTA_CHAIN_TABLE:
			c.table = ad.String()
		case unix.NFTA_CHAIN_NAME:
			c.name = ad.String()
		case unix.NFTA_CHAIN_POLICY:
			c.drops = verdictCode(ad.Uint32()) == codeDrop
		case unix.NFTA_CHAIN_TYPE:
			c.kind = ad.String()
		case unix.NFTA_CHAIN_HOOK:
			nested(ad, c.decodeHook)
		}
	})
	if c.family == familyNetdev && c.hook != noHook {
		c.hook += hookIngress // NF_NETDEV_INGRESS is 0, NF_NETDEV_EGRESS 1
	}
	return c, err
}

func (c *chain) decodeHook(ad *netlink.AttributeDecoder) {
	const devices = 4 // NFTA_HOOK_DEVS
	switch ad.Type() {
	case unix.NFTA_HOOK_HOOKNUM:
		c.hook = hook(min(ad.Uint32(), uint32(noHook)-2))
	case unix.NFTA_HOOK_PRIORITY:
		c.priority = int32(ad.Uint32())
	case unix.NFTA_HOOK_DEV:
		c.devices = append(c.devices, ad.String())
	case devices:
		nested(ad, func(ad *netlink.AttributeDecoder) { c.devices = append(c.devices, ad.String()) })
	}
}

// decodeRule returns the rule of a message, and the chain that it is in.
func decodeRule(message []byte) (in key, r rule, err error) {
	handle, exprs := uint64(0), []expr(nil)
	err = attributes(message, func(family Family, ad *netlink.AttributeDecoder) {
		in.family = family
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE:
			in.table = ad.String()
		case unix.NFTA_RULE_CHAIN:
			in.name = ad.String()
		case unix.NFTA_RULE_HANDLE:
			handle = ad.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			nested(ad, func(ad *netlink.AttributeDecoder) {
				exprs = append(exprs, decodeExpr(family, ad.Bytes())...)
			})
		}
	})
	return in, newRule(handle, exprs), err
}

// decodeExpr returns an expression; some of xtables are several of ours.
func decodeExpr(family Family, b []byte) []expr {
	name, data := "", []byte(nil)
	if err := decode(b, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			name = ad.String()
		case unix.NFTA_EXPR_DATA:
			data = ad.Bytes()
		}
	}); err != nil {
		return []expr{{name: "malformed expression"}}
	}
	if name == "match" || name == "target" {
		return decodeXtables(name, family, data)
	}
	e := simple(name)
	if read, ok := readers[name]; ok {
		e = expr{dst: noRegister, src: noRegister}
		if name == "redir" { // without attributes it is one to the same port
			e.kind, e.target = translates, translation{redirect: true, portMin: noRegister, portMax: noRegister}
		}
		strange := false
		err := decode(data, func(ad *netlink.AttributeDecoder) { strange = !read(&e, ad) || strange })
		if strange || err != nil || !e.complete() {
			e = expr{kind: unknownKind}
		}
	}
	e.name = name
	return []expr{e}
}

// simple returns an expression by its name alone.
func simple(name string) expr {
	switch name {
	case "counter", "log", "last", "dup":
		return expr{kind: nothing}
	case "limit", "quota", "connlimit", "dynset":
		return expr{kind: mayMatch}
	case "byteorder", "hash", "numgen", "rt", "socket", "osf", "xfrm", "tunnel", "inner", "exthdr":
		return expr{kind: forgets}
	case "reject":
		return expr{kind: rejects}
	case "masq":
		return expr{kind: translatesSource}
	case "notrack":
		return expr{kind: loses}
	case "queue", "fwd", "tproxy", "synproxy":
		return expr{kind: leaves}
	default:
		return expr{}
	}
}

// complete reports whether an expression has what its kind requires.
func (e *expr) complete() bool {
	switch e.kind {
	case load:
		return e.dst >= firstRegister && e.dst < numRegisters && e.offset >= 0 && e.length >= 0 && e.offset <= maxHeader && e.length <= maxValue
	case constant:
		return e.dst >= firstRegister && len(e.data) > 0 && len(e.data) <= maxValue
	case mask:
		return e.dst >= firstRegister && e.src >= firstRegister && len(e.data) > 0 && len(e.data) == len(e.data2) && len(e.data) <= maxValue
	case compare:
		return e.src >= firstRegister && len(e.data) > 0 && len(e.data) <= maxValue
	case inRange:
		return e.src >= firstRegister && len(e.data) > 0 && len(e.data) == len(e.data2) && len(e.data) <= maxValue
	case lookup:
		return e.src >= firstRegister && e.set != ""
	default:
		return true
	}
}

// Limits of what a register or a header may have.
const (
	maxValue  = 64
	maxHeader = 1 << 16
)

// register returns the index of a register, in units of four bytes.
func register(n uint32) int {
	switch {
	case n == unix.NFT_REG_VERDICT:
		return verdictRegister
	case n <= unix.NFT_REG_4:
		return int(n) * 4
	case n >= unix.NFT_REG32_00 && n <= unix.NFT_REG32_15:
		return int(n) - unix.NFT_REG32_00 + firstRegister
	default:
		return noRegister
	}
}

// readData returns what is nested: a value or a verdict.
func readData(ad *netlink.AttributeDecoder) (data string, d decree) {
	nested(ad, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_DATA_VALUE:
			data = string(ad.Bytes())
		case unix.NFTA_DATA_VERDICT:
			nested(ad, d.read)
		}
	})
	return data, d
}

// value returns a nested value.
func value(ad *netlink.AttributeDecoder) string {
	data, _ := readData(ad)
	return data
}

// reader reads an attribute into an expression. It returns false for one that it does not know.
type reader func(e *expr, ad *netlink.AttributeDecoder) bool

// readers are those of the expressions that have attributes to read.
var readers = map[string]reader{
	"meta": readMeta, "payload": readPayload, "cmp": readCompare, "bitwise": readBitwise,
	"lookup": readLookup, "range": readRange, "immediate": readImmediate, "ct": readConntrack,
	"fib": readFib, "nat": readNAT, "redir": readRedirect, "objref": readObject,
}

func readMeta(e *expr, ad *netlink.AttributeDecoder) bool {
	switch ad.Type() {
	case unix.NFTA_META_DREG:
		e.kind, e.source, e.dst = load, fromMeta, register(ad.Uint32())
	case unix.NFTA_META_KEY:
		e.key = ad.Uint32()
	case unix.NFTA_META_SREG:
		switch e.key {
		case metaPktType:
			e.kind = rewrites
		case unix.NFT_META_MARK:
			e.kind = marks
		default:
			e.kind = nothing
		}
	default:
		return false
	}
	return true
}

func readPayload(e *expr, ad *netlink.AttributeDecoder) bool {
	switch ad.Type() {
	case unix.NFTA_PAYLOAD_DREG:
		e.kind, e.dst = load, register(ad.Uint32())
	case unix.NFTA_PAYLOAD_BASE:
		e.source = map[uint32]source{
			unix.NFT_PAYLOAD_NETWORK_HEADER: fromNetworkHeader, unix.NFT_PAYLOAD_TRANSPORT_HEADER: fromTransportHeader,
			unix.NFT_PAYLOAD_LL_HEADER: fromElsewhere,
		}[ad.Uint32()]
		return e.source != fromMeta
	case unix.NFTA_PAYLOAD_OFFSET:
		e.offset = int(int32(ad.Uint32()))
	case unix.NFTA_PAYLOAD_LEN:
		e.length = int(int32(ad.Uint32()))
	case unix.NFTA_PAYLOAD_SREG:
		e.kind = rewrites
	case unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFTA_PAYLOAD_CSUM_OFFSET, unix.NFTA_PAYLOAD_CSUM_FLAGS:
	default:
		return false
	}
	return true
}

func readCompare(e *expr, ad *netlink.AttributeDecoder) bool {
	e.kind = compare
	switch ad.Type() {
	case unix.NFTA_CMP_SREG:
		e.src = register(ad.Uint32())
	case unix.NFTA_CMP_OP:
		op := ad.Uint32()
		e.op = operator(min(op, 255))
		return op <= uint32(greaterOrEqual)
	case unix.NFTA_CMP_DATA:
		e.data = value(ad)
	default:
		return false
	}
	return true
}

func readBitwise(e *expr, ad *netlink.AttributeDecoder) bool {
	const op = 6 // NFTA_BITWISE_OP
	e.kind = mask
	switch ad.Type() {
	case unix.NFTA_BITWISE_SREG:
		e.src = register(ad.Uint32())
	case unix.NFTA_BITWISE_DREG:
		e.dst = register(ad.Uint32())
	case unix.NFTA_BITWISE_LEN:
		e.length = int(ad.Uint32())
	case unix.NFTA_BITWISE_MASK:
		e.data = value(ad)
	case unix.NFTA_BITWISE_XOR:
		e.data2 = value(ad)
	case op:
		return ad.Uint32() == 0 // the one with a mask
	default:
		return false
	}
	return true
}

func readLookup(e *expr, ad *netlink.AttributeDecoder) bool {
	e.kind = lookup
	switch ad.Type() {
	case unix.NFTA_LOOKUP_SET:
		e.set = ad.String()
	case unix.NFTA_LOOKUP_SREG:
		e.src = register(ad.Uint32())
	case unix.NFTA_LOOKUP_DREG:
		e.dst = register(ad.Uint32())
	case unix.NFTA_LOOKUP_SET_ID:
	case unix.NFTA_LOOKUP_FLAGS:
		flags := ad.Uint32()
		e.inverse = flags&1 != 0 // NFT_LOOKUP_F_INV
		return flags <= 1
	default:
		return false
	}
	return true
}

func readRange(e *expr, ad *netlink.AttributeDecoder) bool {
	e.kind = inRange
	switch ad.Type() {
	case unix.NFTA_RANGE_SREG:
		e.src = register(ad.Uint32())
	case unix.NFTA_RANGE_OP:
		op := ad.Uint32()
		e.inverse = op == unix.NFT_RANGE_NEQ
		return op <= unix.NFT_RANGE_NEQ
	case unix.NFTA_RANGE_FROM_DATA:
		e.data = value(ad)
	case unix.NFTA_RANGE_TO_DATA:
		e.data2 = value(ad)
	default:
		return false
	}
	return true
}

func readImmediate(e *expr, ad *netlink.AttributeDecoder) bool {
	switch ad.Type() {
	case unix.NFTA_IMMEDIATE_DREG:
		e.dst = register(ad.Uint32())
		e.kind = constant
		if e.dst == verdictRegister {
			e.kind = setsVerdict
		}
	case unix.NFTA_IMMEDIATE_DATA:
		e.data, e.decree = readData(ad)
	default:
		return false
	}
	return true
}

func (d *decree) read(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case unix.NFTA_VERDICT_CODE:
		d.code = verdictCode(int32(ad.Uint32()))
	case unix.NFTA_VERDICT_CHAIN:
		d.chain = ad.String()
	}
}

func readConntrack(e *expr, ad *netlink.AttributeDecoder) bool {
	const zone = 15 // NFT_CT_ZONE
	switch ad.Type() {
	case unix.NFTA_CT_DREG:
		e.kind, e.source, e.dst = load, fromConntrack, register(ad.Uint32())
	case unix.NFTA_CT_KEY:
		e.key = ad.Uint32()
	case unix.NFTA_CT_DIRECTION: // only of keys that are not understood
	case unix.NFTA_CT_SREG:
		if e.kind = nothing; e.key == zone {
			e.kind = loses
		}
	default:
		return false
	}
	return true
}

func readFib(e *expr, ad *netlink.AttributeDecoder) bool {
	e.kind, e.source = load, fromRoutes
	switch ad.Type() {
	case unix.NFTA_FIB_DREG:
		e.dst = register(ad.Uint32())
	case unix.NFTA_FIB_RESULT:
		e.key = ad.Uint32()
	case unix.NFTA_FIB_FLAGS:
		e.flags = ad.Uint32()
	default:
		return false
	}
	return true
}

func readNAT(e *expr, ad *netlink.AttributeDecoder) bool {
	if e.kind == unknownKind {
		e.kind, e.target = translates, translation{addressMin: noRegister, addressMax: noRegister, portMin: noRegister, portMax: noRegister}
	}
	switch ad.Type() {
	case unix.NFTA_NAT_TYPE:
		if ad.Uint32() == unix.NFT_NAT_SNAT {
			e.kind = translatesSource
		}
	case unix.NFTA_NAT_FAMILY:
	case unix.NFTA_NAT_REG_ADDR_MIN:
		e.target.addressMin = register(ad.Uint32())
	case unix.NFTA_NAT_REG_ADDR_MAX:
		e.target.addressMax = register(ad.Uint32())
	case unix.NFTA_NAT_REG_PROTO_MIN:
		e.target.portMin = register(ad.Uint32())
	case unix.NFTA_NAT_REG_PROTO_MAX:
		e.target.portMax = register(ad.Uint32())
	case unix.NFTA_NAT_FLAGS:
		if ad.Uint32()&unix.NF_NAT_RANGE_NETMAP != 0 {
			e.target.obscure = "dnat to a prefix"
		}
	default:
		return false
	}
	return true
}

func readRedirect(e *expr, ad *netlink.AttributeDecoder) bool {
	switch ad.Type() {
	case unix.NFTA_REDIR_REG_PROTO_MIN:
		e.target.portMin = register(ad.Uint32())
	case unix.NFTA_REDIR_REG_PROTO_MAX:
		e.target.portMax = register(ad.Uint32())
	case unix.NFTA_REDIR_FLAGS:
	default:
		return false
	}
	return true
}

func readObject(e *expr, ad *netlink.AttributeDecoder) bool {
	const kindOfObject, synproxy = 1, 10 // NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_SYNPROXY
	if e.kind == unknownKind {
		e.kind = mayMatch
	}
	if ad.Type() != kindOfObject {
		return true
	}
	switch ad.Uint32() {
	case unix.NFT_OBJECT_COUNTER, unix.NFT_OBJECT_CT_HELPER, unix.NFT_OBJECT_CT_TIMEOUT, unix.NFT_OBJECT_SECMARK:
		e.kind = nothing
	case synproxy:
		e.kind = leaves
	}
	return true
}

// decodeSet returns the set of a message, without its elements.
func decodeSet(message []byte) (*setHeader, error) {
	s := &setHeader{}
	err := attributes(message, func(family Family, ad *netlink.AttributeDecoder) {
		s.family = family
		switch ad.Type() {
		case unix.NFTA_SET_TABLE:
			s.table = ad.String()
		case unix.NFTA_SET_NAME:
			s.name = ad.String()
		case unix.NFTA_SET_FLAGS:
			s.flags = ad.Uint32()
		}
	})
	return s, err
}

// setHeader is a set whose elements are not read.
type setHeader struct {
	key
	flags uint32
}

// rawElement is an element as the kernel has it: a range is two of them.
type rawElement struct {
	element
	ends bool // where a range has ended
}

// decodeElements returns the elements of a message.
func decodeElements(message []byte) (all []rawElement, obscure string, err error) {
	err = attributes(message, func(_ Family, ad *netlink.AttributeDecoder) {
		if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		nested(ad, func(ad *netlink.AttributeDecoder) {
			e, what := decodeElement(ad)
			if what != "" {
				obscure = what
			}
			all = append(all, e)
		})
	})
	return all, obscure, err
}

func decodeElement(ad *netlink.AttributeDecoder) (e rawElement, obscure string) {
	const keyEnd, expressions, catchAll = 10, 11, 2 // NFTA_SET_ELEM_KEY_END, …_EXPRESSIONS, NFT_SET_ELEM_CATCHALL
	nested(ad, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			e.lo = value(ad)
			if e.hi == "" {
				e.hi = e.lo
			}
		case keyEnd:
			e.hi, e.inParts = value(ad), true
		case unix.NFTA_SET_ELEM_DATA:
			e.data, e.decree = readData(ad)
		case unix.NFTA_SET_ELEM_FLAGS:
			flags := ad.Uint32()
			e.ends, e.any = flags&unix.NFT_SET_ELEM_INTERVAL_END != 0, flags&catchAll != 0
		case unix.NFTA_SET_ELEM_TIMEOUT, unix.NFTA_SET_ELEM_EXPIRATION, unix.NFTA_SET_ELEM_USERDATA, unix.NFTA_SET_ELEM_PAD:
		case unix.NFTA_SET_ELEM_EXPR:
			obscure = cmp.Or(obscure, notCounter(ad.Bytes()))
		case expressions:
			nested(ad, func(ad *netlink.AttributeDecoder) { obscure = cmp.Or(obscure, notCounter(ad.Bytes())) })
		default:
			obscure = "element of a kind that is not known"
		}
	})
	return e, obscure
}

// notCounter names the expression of an element, if it decides whether that matches.
func notCounter(b []byte) string {
	for _, e := range decodeExpr(familyINet, b) {
		if e.kind != nothing {
			return e.name + " of an element"
		}
	}
	return ""
}

// set returns the set with elements.
func (h *setHeader) set(raw []rawElement, obscure string) *set {
	const dynamic = unix.NFT_SET_EVAL
	s := &set{key: h.key, obscure: obscure, volatile: h.flags&(dynamic|unix.NFT_SET_TIMEOUT) != 0}
	if h.flags&unix.NFT_SET_OBJECT != 0 {
		s.obscure = cmp.Or(s.obscure, "map of objects")
	}
	var keyed []rawElement
	for _, e := range raw {
		switch {
		case e.any:
			s.elements = append(s.elements, e.element)
		case len(e.lo) != len(e.hi) || len(e.lo) == 0 || len(e.lo) > maxValue || len(keyed) > 0 && len(e.lo) != len(keyed[0].lo):
			s.obscure = cmp.Or(s.obscure, "element without a key")
		default:
			keyed = append(keyed, e)
		}
	}
	if s.obscure != "" {
		s.elements = nil
		return s
	}
	ranged := h.flags&unix.NFT_SET_INTERVAL != 0 && !slices.ContainsFunc(keyed, func(e rawElement) bool { return e.inParts })
	if ranged {
		keyed = ranges(keyed)
	}
	for _, e := range keyed {
		s.elements = append(s.elements, e.element)
	}
	return s
}

// ranges returns ranges of elements of which some are the end of one.
func ranges(raw []rawElement) (all []rawElement) {
	slices.SortStableFunc(raw, func(a, b rawElement) int {
		if c := strings.Compare(a.lo, b.lo); c != 0 {
			return c
		}
		switch {
		case a.ends == b.ends:
			return 0
		case a.ends:
			return -1
		default:
			return 1
		}
	})
	for i, e := range raw {
		if e.ends {
			continue
		}
		e.hi = every(len(e.lo))[0].hi
		if i+1 < len(raw) {
			if hi, ok := before(raw[i+1].lo); ok && hi >= e.lo {
				e.hi = hi
			}
		}
		all = append(all, e)
	}
	return all
}

// String names a chain or a set.
func (k key) String() string { return fmt.Sprintf("%v %s %s", k.family, k.table, k.name) }
