package policy

// Kind is what a policy says of a listener.
type Kind uint8

// The kinds.
const (
	Unexpected Kind = iota // no rule matches
	Forbidden              // the first rule that matches forbids it
	Unverified             // whether a rule matches depends on an owner that could not be read
	Undecided              // no rule is known to match a UDP socket that may be a client's
	Expected               // the first rule that matches expects it
)

// Kinds returns every kind.
func Kinds() []Kind { return []Kind{Unexpected, Forbidden, Unverified, Undecided, Expected} }

// String returns the kind as it stands in tables.
func (k Kind) String() string {
	switch k {
	case Unexpected:
		return "unexpected"
	case Forbidden:
		return "forbidden"
	case Unverified:
		return "unverified"
	case Undecided:
		return "undecided"
	case Expected:
		return "expected"
	default:
		return "unknown"
	}
}

// noRule is the rule of a verdict that none decides.
const noRule = -1

// Verdict is what a policy says of one listener in the hands of one owner.
type Verdict struct {
	Kind Kind
	// Rule is the index of the rule that expects or forbids the listener, or of the
	// first one that could not be verified; -1 where there is none.
	Rule int
}

// Expected reports whether a rule expects the listener.
func (v Verdict) Expected() bool { return v.Kind == Expected }

// Broken reports whether the listener is known to be against the policy.
func (v Verdict) Broken() bool { return v.Kind == Unexpected || v.Kind == Forbidden }

// Findings are what a policy says of the listeners of one moment.
type Findings struct {
	// Verdicts has one for each listener, in their order.
	Verdicts []Verdict
	// Matches has, for each rule, the number of listeners that it expects or
	// forbids: of identities, so that two owners of one listener count once.
	Matches []int
	// Unverified has, for each rule, the number of listeners that it may match as
	// well: their owner could not be read.
	Unverified []int
	// Missing are the required rules that no listener matches or may match, by
	// index.
	Missing []int
}

// Severity says how bad a broken rule is.
type Severity uint8

// The severities; the first is that of a rule without one.
const (
	SeverityCritical Severity = iota
	SeverityWarning
	SeverityInfo
)

// Severities returns every severity, the worst first.
func Severities() []Severity { return []Severity{SeverityCritical, SeverityWarning, SeverityInfo} }

// String returns the severity as alerts have it.
func (s Severity) String() string {
	switch s {
	case SeverityCritical:
		return "critical"
	case SeverityWarning:
		return "warning"
	case SeverityInfo:
		return "info"
	default:
		return "unknown"
	}
}
