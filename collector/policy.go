package collector

import (
	"context"
	"slices"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	unexpectedListeners = gauge("port_policy_unexpected_listeners",
		"How many listeners no rule of the policy expects, by scope. Absent when no policy is configured.", "netns", "scope")
	unexpectedListener = gauge("port_policy_unexpected_listener",
		"1 for each listener and owner that no rule of the policy expects.",
		bind(listenerLabels, "scope", "process", "user", "unit", "container")...)
	missingListener = gauge("port_policy_missing_listener",
		"Whether a required rule of the policy expects nothing that is there (1) or something (0).", "rule")
	ruleListeners = gauge("port_policy_rule_listeners",
		"How many listeners a rule of the policy is the first to expect; 0 is a stale rule.", "rule")
)

// findings tells what a policy says of the listeners.
type findings struct{ rules []policy.Rule }

func (findings) Name() string { return "policy" }

func (findings) Families() []*Family {
	return []*Family{unexpectedListeners, unexpectedListener, missingListener, ruleListeners}
}

func (c findings) Collect(_ context.Context, host *Snapshot, out *Output) error {
	owners, err := host.Owners()
	if err != nil {
		return err
	}
	found := policy.Evaluate(c.rules, owners.Owned)
	addUnexpected(out, owners.Owned, found.Verdicts)
	for i, rule := range c.rules {
		out.add(ruleListeners, float64(found.Matches[i]), rule.Name)
		if rule.Required {
			out.add(missingListener, truth(slices.Contains(found.Missing, i)), rule.Name)
		}
	}
	return nil
}

func addUnexpected(out *Output, owned []socket.Owned, verdicts []policy.Verdict) {
	counts := map[socket.Scope]int{}
	for of := range byListener(owned) {
		l := &of[0].Listener
		judged := verdicts[:len(of)]
		verdicts = verdicts[len(of):]
		var told [][4]string
		for i, o := range of {
			labels := ownerLabels(o.Owner)
			if judged[i].Expected() || slices.Contains(told, labels) {
				continue
			}
			told = append(told, labels)
			out.add(unexpectedListener, 1, bind(labelsOf(l.ListenerID), l.Scope.String(), labels[0], labels[1], labels[2], labels[3])...)
		}
		if len(told) > 0 {
			counts[l.Scope]++
		}
	}
	for _, scope := range socket.Scopes() {
		out.add(unexpectedListeners, float64(counts[scope]), hostNetns, scope.String())
	}
}
