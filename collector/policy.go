package collector

import (
	"context"
	"slices"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	unexpectedListeners = gauge("port_policy_unexpected_listeners",
		"Listeners no rule of the policy expects, by scope. Absent when no policy is configured.", "netns", "scope")
	unexpectedListener = gauge("port_policy_unexpected_listener",
		"1 for each listener and owner that no rule of the policy expects.",
		bind(listenerLabels, "scope", "process", "user", "unit", "container")...)
	missingListener = gauge("port_policy_missing_listener",
		"Whether no listener matches or may match a required rule of the policy (1), or one does (0).", "rule")
	unverifiedListeners = gauge("port_policy_unverified_listeners",
		"Listeners that a rule may match if their owner could be read, by scope. They are not unexpected.", "netns", "scope")
	forbiddenListener = gauge("port_policy_forbidden_listener",
		"1 for each listener that a rule of the policy forbids. It is unexpected, too.", bind(listenerLabels, "rule", "severity")...)
	ruleListeners = gauge("port_policy_rule_listeners",
		"Listeners a rule of the policy is the first to expect; 0 is a stale rule. Absent for rules that forbid.", "rule")
	ruleUnverified = gauge("port_policy_rule_unverified_listeners",
		"Listeners that a rule of the policy may match as well: their owner could not be read.", "rule")
	ruleInfo = gauge("port_policy_rule_info",
		"1 for each rule of the policy. kind: expect, require, forbid.", "rule", "kind", "severity")
	ruleEnd = gauge("port_policy_rule_end_timestamp_seconds",
		"When a rule of the policy ends (until), in seconds since the epoch.", "rule")
)

// findings tells what a policy says of the listeners.
type findings struct{ rules []policy.Rule }

func (findings) Name() string { return "policy" }

func (findings) Families() []*Family {
	return []*Family{unexpectedListeners, unexpectedListener, unverifiedListeners, forbiddenListener, missingListener,
		ruleListeners, ruleUnverified, ruleInfo, ruleEnd}
}

func (c findings) Collect(_ context.Context, host *Snapshot, out *Output) error {
	owners, err := host.Owners()
	switch {
	case err != nil:
		return err
	case owners.Busy:
		return errBusy // nothing is known of any owner: no verdict
	}
	found := policy.Evaluate(c.rules, owners.Owned, host.Began())
	c.addVerdicts(out, owners.Owned, found.Verdicts)
	for i := range c.rules {
		c.addRule(out, i, found)
	}
	return nil
}

func (c findings) addRule(out *Output, i int, found policy.Findings) {
	r := &c.rules[i]
	out.add(ruleInfo, 1, r.Name, ruleKind(r), r.Severity.String())
	out.add(ruleUnverified, float64(found.Unverified[i]), r.Name)
	if !r.Forbid {
		out.add(ruleListeners, float64(found.Matches[i]), r.Name)
	}
	if r.Required {
		out.add(missingListener, truth(slices.Contains(found.Missing, i)), r.Name)
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

// addVerdicts adds what is not expected. A listener counts once, however many owners it has.
func (c findings) addVerdicts(out *Output, owned []socket.Owned, verdicts []policy.Verdict) {
	unexpected, unverified := map[socket.Scope]int{}, map[socket.Scope]int{}
	for of := range byListener(owned) {
		judged := verdicts[:len(of)]
		verdicts = verdicts[len(of):]
		scope := of[0].Scope
		switch {
		case slices.ContainsFunc(judged, policy.Verdict.Broken):
			unexpected[scope]++
			addUnexpected(out, of, judged)
			c.addForbidden(out, of[0].ListenerID, judged)
		case slices.ContainsFunc(judged, func(v policy.Verdict) bool { return v.Kind == policy.Unverified }):
			unverified[scope]++
		}
	}
	for _, scope := range socket.Scopes() {
		out.add(unexpectedListeners, float64(unexpected[scope]), hostNetns, scope.String())
		out.add(unverifiedListeners, float64(unverified[scope]), hostNetns, scope.String())
	}
}

// addUnexpected names the owners of a listener that are not expected. Owners may
// differ in what is no label.
func addUnexpected(out *Output, of []socket.Owned, judged []policy.Verdict) {
	var named [][4]string
	for i, o := range of {
		labels := ownerLabels(o.Owner)
		if !judged[i].Broken() || slices.Contains(named, labels) {
			continue
		}
		named = append(named, labels)
		out.add(unexpectedListener, 1, bind(labelsOf(o.ListenerID), o.Scope.String(), labels[0], labels[1], labels[2], labels[3])...)
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
