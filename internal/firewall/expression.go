package firewall

// kind is what an expression of a rule does.
type kind uint8

const (
	unknownKind      kind = iota // it may do anything
	load                         // puts something of the packet into a register
	constant                     // puts a value into a register
	mask                         // register & data ^ data2
	compare                      // register op data
	inRange                      // register from data to data2, or not
	lookup                       // register in a set, perhaps with a value for another
	match                        // a match of xtables that is understood
	mayMatch                     // a condition that is not understood, or depends on a rate
	byChance                     // one that spreads connections at random
	setsVerdict                  // accept, drop, jump, …
	rejects                      // with an error
	translates                   // to another address or port
	translatesSource             // which ends a chain as accept does
	forgets                      // what is in the registers, for it loads what is not understood
	loses                        // what is known of the state of the connection, such as notrack
	rewrites                     // the packet
	marks                        // the packet, which a chain of type route then routes anew
	leaves                       // to somewhere else, such as a queue
	nothing                      // counters, logs: the packet is as it was
)

// operator is NFT_CMP_* of include/uapi/linux/netfilter/nf_tables.h.
type operator uint8

const (
	equal operator = iota
	notEqual
	less
	lessOrEqual
	greater
	greaterOrEqual
)

// source is where a load reads.
type source uint8

const (
	fromMeta source = iota
	fromNetworkHeader
	fromTransportHeader
	fromConntrack
	fromRoutes // fib
	fromElsewhere
)

// verdictCode is NF_* of include/uapi/linux/netfilter.h, or NFT_* of nf_tables.h.
type verdictCode int32

const (
	codeDrop     verdictCode = 0
	codeAccept   verdictCode = 1
	codeContinue verdictCode = -1
	codeBreak    verdictCode = -2
	codeJump     verdictCode = -3
	codeGoto     verdictCode = -4
	codeReturn   verdictCode = -5
)

// decree is a verdict with the chain that it leads to.
type decree struct {
	code  verdictCode
	chain string
}

// noRegister is the destination of a lookup without a value.
const noRegister = -1

// verdictRegister is the register of verdicts; the others are 4 bytes each.
const (
	verdictRegister = 0
	firstRegister   = 4
	numRegisters    = 20
)

// expr is one expression of a rule; which fields it has depends on its kind.
type expr struct {
	kind kind
	name string // as nftables or xtables has it

	source  source
	key     uint32 // what is loaded
	flags   uint32
	dst     int
	src     int
	offset  int
	length  int
	op      operator
	data    string
	data2   string
	set     string
	inverse bool
	decree  decree

	conditions []condition // of a match: all of them, in the dims of an incoming packet
	states     uint32      // of a match: states of conntrack that it asks for; zero is none
	dstTypes   uint16      // likewise, types of the destination
	srcTypes   uint16      // and of the source
	tcpMask    byte        // likewise, flags of TCP
	tcpFlags   byte
	tcpInverse bool
	never      bool // it matches no packet that is looked at

	target translation
}

// effective reports whether the expression may do something to a packet.
func (e *expr) effective() bool {
	switch e.kind {
	case unknownKind, rejects, translates, translatesSource, loses, rewrites, marks, leaves:
		return true
	case setsVerdict:
		return e.decree.code != codeContinue
	case lookup:
		return e.dst == verdictRegister
	default:
		return false
	}
}

// newRule returns a rule of expressions.
func newRule(handle uint64, exprs []expr) rule {
	r := rule{handle: handle, exprs: exprs, lastEffect: -1}
	for i := range exprs {
		if exprs[i].effective() {
			r.lastEffect = i
		}
	}
	return r
}

// translation is where a rule sends a connection: the registers with the first and the
// last address and port, -1 for none.
type translation struct {
	redirect               bool // to this host
	addressMin, addressMax int
	portMin, portMax       int
	// obscure is what of it is not understood.
	obscure string
}

// set is a set or a map.
type set struct {
	key
	elements []element
	// volatile reports that its elements come and go without a transaction.
	volatile bool
	// obscure is what of it is not understood.
	obscure string
	grouped []group
}

// element is one element: all keys from lo to hi, where each of the parts of a key has its
// own limits if the set is a concatenation.
type element struct {
	lo, hi string
	data   string
	decree decree
	// inParts reports that the parts of a key have limits of their own.
	inParts bool
	// any is the element that all keys have that no other has.
	any bool
}

// group is all elements of a map with the same value.
type group struct {
	elements []element
	keys     spans // all of them, unless inParts
	inParts  bool
	data     string
	decree   decree
}

// groups returns the elements by value.
func (s *set) groups() (groups []group) {
	type value struct {
		data   string
		decree decree
	}
	at := map[value]int{}
	for _, e := range s.elements {
		if e.any {
			continue
		}
		v := value{e.data, e.decree}
		i, ok := at[v]
		if !ok {
			i = len(groups)
			at[v] = i
			groups = append(groups, group{data: e.data, decree: e.decree})
		}
		groups[i].elements = append(groups[i].elements, e)
	}
	for i := range groups {
		groups[i].index()
	}
	return groups
}

// index makes the spans of a group.
func (g *group) index() {
	all := make(spans, len(g.elements))
	for i, e := range g.elements {
		all[i] = span{e.lo, e.hi}
		g.inParts = g.inParts || e.inParts
	}
	g.keys = union(all)
}
