package collector

import (
	"context"
	"slices"
	"time"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	unexpectedListeners = gauge("port_policy_unexpected_listeners",
		"Listeners that no policy rule expects, by scope; absent without a policy.", "netns", "scope")
	unexpectedListener = gauge("port_policy_unexpected_listener",
		"Listener that no policy rule expects; always 1.",
		bind(listenerLabels, "scope", "process", "user", "unit", "container")...)
	undecidedListeners = gauge("port_policy_undecided_listeners",
		"UDP sockets on ephemeral ports that no policy rule expects, by scope.", "netns", "scope")
	undecidedListener = gauge("port_policy_undecided_listener",
		"Listener counted in port_policy_undecided_listeners; always 1.",
		bind(listenerLabels, "scope", "process", "user", "unit", "container")...)
	missingListener = gauge("port_policy_missing_listener",
		"Whether a required policy rule has no listener (1 or 0).", "rule")
	unverifiedListeners = gauge("port_policy_unverified_listeners",
		"Listeners with an unknown owner that a policy rule may match, by scope.", "netns", "scope")
	forbiddenListener = gauge("port_policy_forbidden_listener",
		"Listener that a policy rule forbids; always 1.", bind(listenerLabels, "rule", "severity")...)
	ruleListeners = gauge("port_policy_rule_listeners",
		"Listeners that a policy rule is the first to expect.", "rule")
	ruleUnverified = gauge("port_policy_rule_unverified_listeners",
		"Listeners with an unknown owner that this policy rule may match.", "rule")
	ruleInfo = gauge("port_policy_rule_info",
		"Kind and severity of a policy rule; always 1.", "rule", "kind", "severity")
	ruleEnd = gauge("port_policy_rule_end_timestamp_seconds",
		"When a policy rule ends (until), in seconds since the epoch.", "rule")
)

// findings exports the findings of a policy on the listeners.
type findings struct {
	rules []policy.Rule
	// limit is that on listeners with series of their own, and limitElsewhere that in each
	// other network namespace.
	limit, limitElsewhere int
}

func (findings) Name() string { return "policy" }

func (findings) Families() []*Family {
	return []*Family{unexpectedListeners, unexpectedListener, unverifiedListeners, undecidedListeners,
		undecidedListener, unexpectedPortless, forbiddenListener, missingListener,
		ruleListeners, ruleUnverified, ruleInfo, ruleEnd}
}

// Collect judges all listeners that were read. What is exported of them has its
// limit; the counts have none.
func (c findings) Collect(_ context.Context, host *Snapshot, out *Output) error {
	j, err := c.judge(host)
	if err != nil {
		return err
	}
	shown, err := host.Shown()
	if err != nil {
		return err
	}
	rest := c.addVerdicts(out, j.owned, j.verdicts, unverifiedScopes(j.portless, j.portlessVerdicts))
	out.fold(unexpectedListener, rest)
	rest = addUndecided(out, shown.fold(undecidedOf(j.owned, j.verdicts)), c.limit)
	out.fold(undecidedListener, rest)
	c.addElsewhere(out, j.elsewhere, j.elsewhereVerdicts)
	addUnexpectedPortless(out, j.portless, j.portlessVerdicts, c.limit)
	for i := range c.rules {
		c.addRule(out, i, j)
	}
	return nil
}

// judged is what the policy says of a host.
type judged struct {
	policy.Findings
	owned, portless, elsewhere                    []socket.Owned
	verdicts, portlessVerdicts, elsewhereVerdicts []policy.Verdict
	// Of a rule that is partial some sockets were not read, so it is neither stale nor
	// missing. That what an unsure one requires is missing is not known.
	partial, unsure []bool
}

// judge judges all listeners that were read, and what has no port.
func (c findings) judge(host *Snapshot) (judged, error) {
	owners, err := host.Owners()
	if err != nil {
		return judged{}, err
	}
	table, err := host.Listening()
	if err != nil {
		return judged{}, err
	}
	j := judged{owned: owners.Owned, portless: c.withoutPorts(host)}
	others, wholeElsewhere := c.elsewhere(host)
	j.elsewhere = others.owned
	j.Findings = policy.Evaluate(c.rules, slices.Concat(j.owned, j.portless, j.elsewhere), host.Began())
	j.verdicts, j.portlessVerdicts = j.Verdicts[:len(j.owned)], j.Verdicts[len(j.owned):]
	j.portlessVerdicts, j.elsewhereVerdicts = j.portlessVerdicts[:len(j.portless)], j.portlessVerdicts[len(j.portless):]
	unported, _ := host.Portless()
	whole := func(p socket.Protocol) bool { return table.Whole(p) || unported.Whole(p) || c.wholeUnix(host, p) }
	young := c.young(table, others, j.Findings, host.Began())
	for i := range c.rules {
		partial := !c.rules[i].Judges(whole) || c.rules[i].AboutOthers() && !wholeElsewhere
		j.partial, j.unsure = append(j.partial, partial), append(j.unsure, partial || young[i])
	}
	return j, nil
}

// elsewhere returns what was read of other network namespaces, if a rule is about them, and
// whether that is all.
func (c findings) elsewhere(host *Snapshot) (_ *elsewhere, whole bool) {
	if !policy.NamesOthers(c.rules) {
		return &elsewhere{}, false
	}
	e, err := host.elsewhere()
	if err != nil {
		return &elsewhere{}, false
	}
	return e, e.whole()
}

// withoutPorts returns what is judged beside the listeners with ports.
func (c findings) withoutPorts(host *Snapshot) []socket.Owned {
	if !policy.NamesUnix(c.rules) {
		return host.PortlessOwners()
	}
	return slices.Concat(host.PortlessOwners(), host.UnixOwners())
}

func (c findings) wholeUnix(host *Snapshot, p socket.Protocol) bool {
	if p != socket.Unix || !policy.NamesUnix(c.rules) {
		return false
	}
	table, _ := host.Unix()
	return table.Whole(p)
}

// young returns for each rule whether what it requires may be there although it is
// not in what was judged: a UDP socket that was not seen for long enough to be a
// listener.
func (c findings) young(table *socket.Table, others *elsewhere, found policy.Findings, began time.Time) []bool {
	young := make([]bool, len(c.rules))
	if len(found.Missing) == 0 {
		return young
	}
	var owned []socket.Owned
	add := func(listeners []socket.Listener, w *socket.Workload) {
		for _, l := range listeners {
			owned = append(owned, socket.Owned{Listener: l, Owner: socket.Owner{Pending: true}, Workload: w})
		}
	}
	add(table.Young, nil)
	for i := range others.all {
		add(others.all[i].table.Young, others.all[i].Workload())
	}
	may := policy.Evaluate(c.rules, owned, began)
	for i := range c.rules {
		young[i] = may.Matches[i]+may.Unverified[i] > 0
	}
	return young
}

// unverifiedScopes returns from where what has no port and is unverified can be
// reached: a unix listener from this host, the others are taken for the worst.
func unverifiedScopes(portless []socket.Owned, verdicts []policy.Verdict) (scopes []socket.Scope) {
	for i, v := range verdicts {
		switch {
		case v.Kind != policy.Unverified:
		case portless[i].Protocol == socket.Unix:
			scopes = append(scopes, portless[i].Scope)
		default:
			scopes = append(scopes, socket.ScopeAny)
		}
	}
	return scopes
}

// addRule adds what is known of a rule.
func (c findings) addRule(out *Output, i int, j judged) {
	r := &c.rules[i]
	out.add(ruleInfo, 1, r.Name, ruleKind(r), r.Severity.String())
	out.add(ruleUnverified, float64(j.Unverified[i]), r.Name)
	if !r.Forbid && (j.Matches[i] > 0 || !j.partial[i]) {
		out.add(ruleListeners, float64(j.Matches[i]), r.Name)
	}
	if missing := slices.Contains(j.Missing, i); r.Required && (!missing || !j.unsure[i]) {
		out.add(missingListener, truth(missing), r.Name)
	}
	if !r.Until.IsZero() {
		out.add(ruleEnd, float64(r.End().Unix()), r.Name)
	}
}

func ruleKind(r *policy.Rule) string {
	switch {
	case r.Forbid:
		return "forbid"
	case r.Required:
		return "require"
	default:
		return "expect"
	}
}

// addElsewhere adds what is not expected in other network namespaces, each with its own
// limit. What is 0 there is left out.
func (c findings) addElsewhere(out *Output, owned []socket.Owned, verdicts []policy.Verdict) {
	c.limit = c.limitElsewhere
	folded := func(f *Family, netns string, rest int) {
		if rest > 0 {
			out.add(namespaceFolded, float64(rest), netns, f.Name)
		}
	}
	for of := range socket.Groups(owned, func(o *socket.Owned) string { return o.Netns }) {
		judged := verdicts[:len(of)]
		verdicts = verdicts[len(of):]
		netns := of[0].Netns
		folded(unexpectedListener, netns, c.addVerdicts(out, of, judged, nil))
		folded(undecidedListener, netns, addUndecided(out, undecidedOf(of, judged), c.limit))
	}
}

// addVerdicts adds what is not expected in a network namespace, and returns how many sockets
// are beyond the limit. A listener counts once, however many owners it has.
func (c findings) addVerdicts(out *Output, owned []socket.Owned, verdicts []policy.Verdict, portless []socket.Scope) (rest int) {
	counts := map[policy.Kind]map[socket.Scope]int{policy.Unexpected: {}, policy.Unverified: {}, policy.Undecided: {}, policy.Expected: {}}
	var broken []socket.Listener
	eachJudged(owned, verdicts, func(of []socket.Owned, judged []policy.Verdict) {
		v := worst(judged)
		kind := v.Kind
		if v.Broken() { // what is forbidden counts as unexpected
			kind = policy.Unexpected
		}
		counts[kind][of[0].Scope]++
		if v.Broken() {
			broken = append(broken, of[0].Listener)
		}
	})
	for _, scope := range portless {
		counts[policy.Unverified][scope]++
	}
	netns := hostNetns
	if len(owned) > 0 {
		netns = owned[0].Netns
	}
	for kind, f := range map[policy.Kind]*Family{policy.Unexpected: unexpectedListeners, policy.Unverified: unverifiedListeners, policy.Undecided: undecidedListeners} {
		for _, scope := range socket.Scopes() {
			if n := counts[kind][scope]; n > 0 || netns == hostNetns {
				out.add(f, float64(n), netns, scope.String())
			}
		}
	}
	series, rest := socket.MostExposed(broken, c.limit)
	eachJudged(owned, verdicts, func(of []socket.Owned, judged []policy.Verdict) {
		if series[of[0].ListenerID] {
			addUnexpected(out, of, judged)
			c.addForbidden(out, of[0].ListenerID, judged)
		}
	})
	return rest
}

// eachJudged calls f for each listener with its owners and the verdicts on them.
func eachJudged(owned []socket.Owned, verdicts []policy.Verdict, f func([]socket.Owned, []policy.Verdict)) {
	for of := range byListener(owned) {
		f(of, verdicts[:len(of)])
		verdicts = verdicts[len(of):]
	}
}

// worst is the verdict on a listener with several owners.
func worst(judged []policy.Verdict) policy.Verdict {
	for _, of := range []func(policy.Verdict) bool{
		policy.Verdict.Broken,
		func(v policy.Verdict) bool { return v.Kind == policy.Unverified },
		func(v policy.Verdict) bool { return v.Kind == policy.Undecided },
	} {
		if i := slices.IndexFunc(judged, of); i >= 0 {
			return judged[i]
		}
	}
	return judged[0]
}

// undecidedOf returns the listeners that are undecided.
func undecidedOf(owned []socket.Owned, verdicts []policy.Verdict) (undecided []socket.Owned) {
	for i, v := range verdicts {
		if v.Kind == policy.Undecided {
			undecided = append(undecided, owned[i])
		}
	}
	return undecided
}

// addUndecided adds undecided listeners, those of a program with many ports as one, and
// returns how many sockets are beyond the limit.
func addUndecided(out *Output, undecided []socket.Owned, limit int) (rest int) {
	var listeners []socket.Listener
	for of := range byListener(undecided) {
		listeners = append(listeners, of[0].Listener)
	}
	series, rest := socket.MostExposed(listeners, limit)
	for of := range byListener(undecided) {
		if series[of[0].ListenerID] {
			addNames(out, undecidedListener, of)
		}
	}
	return rest
}

// addUnexpected names the owners of a listener that are not expected.
func addUnexpected(out *Output, of []socket.Owned, judged []policy.Verdict) {
	var broken []socket.Owned
	for i, o := range of {
		if judged[i].Broken() {
			broken = append(broken, o)
		}
	}
	addNames(out, unexpectedListener, broken)
}

// addNames adds a series for each owner of one listener. Owners may differ in what
// is no label.
func addNames(out *Output, names *Family, of []socket.Owned) {
	var named [][4]string
	for _, o := range of {
		labels := ownerLabels(o.Owner)
		if slices.Contains(named, labels) {
			continue
		}
		named = append(named, labels)
		out.add(names, 1, bind(labelsOf(o.ListenerID), o.Scope.String(), labels[0], labels[1], labels[2], labels[3])...)
	}
}

func (c findings) addForbidden(out *Output, id socket.ListenerID, judged []policy.Verdict) {
	var named []int
	for _, v := range judged {
		if v.Kind != policy.Forbidden || slices.Contains(named, v.Rule) {
			continue
		}
		named = append(named, v.Rule)
		out.add(forbiddenListener, 1, bind(labelsOf(id), c.rules[v.Rule].Name, c.rules[v.Rule].Severity.String())...)
	}
}
