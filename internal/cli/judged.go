package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// judged are the listeners of a host with the verdicts of a policy.
type judged struct {
	rows      []row
	kinds     map[policy.Kind]int // how many rows there are of each
	rules     []policy.Rule
	findings  policy.Findings
	hasPolicy bool
	whole     bool // all that the policy is about was to be read
	read      *reading
	published []publishedRow
	// firewallUnknown says what of the firewall is not known; empty is nothing.
	firewallUnknown string
}

// judge makes rows of listeners. Without a policy they have no verdict.
func (h *Command) judge(owners reading) *judged {
	j := &judged{kinds: map[policy.Kind]int{}, rules: h.Config.Policy, read: &owners}
	j.hasPolicy = h.Config.HasPolicy && (h.Namespaces.own() || h.judgesOthers())
	j.whole = h.Namespaces.own()
	all := owners.everywhere()
	if j.hasPolicy {
		j.findings = policy.Evaluate(j.rules, all, h.now())
	}
	for i, o := range all {
		r := newRow(o)
		if i >= len(owners.Owned) {
			r.Runs = owners.foreign[i-len(owners.Owned)].runs
		}
		if j.hasPolicy && h.covers(&o) {
			v := j.findings.Verdicts[i]
			r.judge(v, j.rules)
			j.kinds[v.Kind]++
		}
		j.rows = append(j.rows, r)
	}
	return j
}

// covers reports whether the policy is about a listener.
func (h *Command) covers(o *socket.Owned) bool {
	return (o.Protocol != socket.Unix || policy.NamesUnix(h.Config.Policy)) && (o.Netns == "" || h.judgesOthers())
}

// judgesOthers reports whether the policy is about other network namespaces.
func (h *Command) judgesOthers() bool {
	return h.Config.HasPolicy && policy.NamesOthers(h.Config.Policy)
}

// now returns the time at which the rules are to hold.
func (h *Command) now() time.Time {
	if h.Now.IsZero() {
		return time.Now()
	}
	return h.Now
}

// isFinding reports whether the policy has something against the listener.
func (r *row) isFinding() bool {
	return r.Verdict != "" && r.Verdict != policy.Expected.String() && r.Verdict != policy.Undecided.String()
}

func (r *row) judge(v policy.Verdict, rules []policy.Rule) {
	r.Verdict = v.Kind.String()
	severity := scopeSeverity(r.Scope)
	if v.Rule >= 0 {
		r.Rule, r.Comment = rules[v.Rule].Name, rules[v.Rule].Comment
	}
	switch v.Kind {
	case policy.Forbidden:
		severity = rules[v.Rule].Severity
	case policy.Unverified:
		severity = policy.SeverityWarning
	case policy.Expected, policy.Undecided:
		return
	case policy.Unexpected:
	}
	r.Severity = severity.String()
}

// scopeSeverity is how bad a listener is that no rule knows, by who can reach it,
// as in the example rules.
func scopeSeverity(scope string) policy.Severity {
	switch scope {
	case socket.ScopeAny.String(), socket.ScopePublic.String():
		return policy.SeverityCritical
	case socket.ScopeLoopback.String():
		return policy.SeverityInfo
	default:
		return policy.SeverityWarning
	}
}

// broken is a required rule that no listener is known to match.
type broken struct {
	rule       *policy.Rule
	unverified bool // a listener may match it whose owner, or that itself, could not be read
}

// required returns the required rules that are missing or could not be verified.
func (j *judged) required() []broken {
	if !j.whole {
		return nil
	}
	var out []broken
	for i := range j.rules {
		missing := slices.Contains(j.findings.Missing, i)
		unread := !j.rules[i].Judges(j.read.whole) || j.rules[i].AboutOthers() && !j.read.wholeElsewhere()
		unverified := missing && unread || j.rules[i].Required && j.findings.Matches[i] == 0 && j.findings.Unverified[i] > 0
		if missing || unverified {
			out = append(out, broken{&j.rules[i], unverified})
		}
	}
	return out
}

func (b broken) String() string {
	if b.unverified {
		return "required, but unverified: " + b.name()
	}
	return "missing: " + b.name()
}

// name returns the name of the rule and its comment.
func (b broken) name() string {
	if b.rule.Comment == "" {
		return b.rule.Name
	}
	return b.rule.Name + " (" + b.rule.Comment + ")"
}

// sentence says what is wrong with the rule.
func (b broken) sentence() string {
	if b.unverified {
		return "the required rule " + b.name() + " may match a listener whose owner could not be read, and matches no other"
	}
	return "nothing listens that the required rule " + b.name() + " expects"
}

// gaps says what was not read that may change a verdict: each is a sentence without
// its full stop.
func (j *judged) gaps() (all []string) {
	for _, p := range j.read.partial {
		all = append(all, fmt.Sprintf("some %v sockets were not read: what the policy says of them is unknown", p))
	}
	if j.whole && policy.NamesOthers(j.rules) && !j.read.wholeElsewhere() {
		all = append(all, "some network namespaces were not read: what the policy says of their listeners is unknown")
	}
	for _, p := range j.read.unknown {
		if !j.whole {
			break
		}
		if i := slices.IndexFunc(j.rules, func(r policy.Rule) bool { return r.NeedsAll() && slices.Contains(r.Protocols, p) }); i >= 0 {
			all = append(all, fmt.Sprintf("the host does not report %v sockets, which rule %s is about", p, plain.Name(j.rules[i].Name)))
		}
	}
	return all
}

// doubts are the gaps and what may be known at a later read.
func (j *judged) doubts() []string {
	all := j.gaps()
	if n := j.read.Pending; n > 0 {
		all = append(all, fmt.Sprintf("the owner of %d of the listeners was not known at the time: a process or the name service did not answer", n))
	}
	return all
}

// verdict returns the error of what the policy does not allow.
func (j *judged) verdict() error {
	if !j.hasPolicy {
		return nil
	}
	status := 0
	var faults []string
	for _, kind := range []policy.Kind{policy.Unexpected, policy.Forbidden, policy.Unverified} {
		if n := j.kinds[kind]; n > 0 {
			status = worse(status, kind == policy.Unverified)
			faults = append(faults, counted(n, kind))
		}
	}
	for _, b := range j.required() {
		status = worse(status, b.unverified)
		faults = append(faults, b.String())
	}
	for _, gap := range j.gaps() {
		status = worse(status, true)
		faults = append(faults, gap)
	}
	if status == 0 {
		return nil
	}
	return &ExitError{Code: status, Message: strings.Join(faults, "\n")}
}

func counted(n int, kind policy.Kind) string {
	text := fmt.Sprintf("%d %s", n, kind)
	if kind == policy.Unverified {
		text += ": whether a rule matches depends on an owner that could not be read"
	}
	return text
}

// worse returns the status with one more finding: one that is certain outweighs
// any that could not be verified.
func worse(status int, unverified bool) int {
	if unverified && status != statusFinding {
		return statusUnverified
	}
	return statusFinding
}
