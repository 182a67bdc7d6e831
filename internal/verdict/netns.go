package verdict

import (
	"errors"
	"strings"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// entered returns the network namespace that the probe was made from; empty if that is our
// own, or could not be entered.
func (f *Facts) entered() string {
	if _, refused := errors.AsType[*probe.NetnsError](f.Result.Err); refused {
		return ""
	}
	return f.Target.Netns
}

// address returns the address of the target, with the network namespace that it was probed
// from: the same address may be another host there.
func (f *Facts) address() string {
	if name := f.entered(); name != "" {
		return f.Target.Redacted() + " from network namespace " + name
	}
	return f.Target.Redacted()
}

// inNetns has a verdict speak of the network namespace that the probe was made from, whose
// facts it has, and no command run in ours.
func (f *Facts) inNetns(v Verdict) Verdict {
	name := f.entered()
	if name == "" {
		return v
	}
	if v.Code != NoResources { // descriptors are those of this host
		v.Sentence = strings.ReplaceAll(v.Sentence, "this host", "that namespace")
	}
	flag := " --netns=" + quoted(name)
	ours := strings.NewReplacer("port_exporter check", "port_exporter check"+flag, "port_exporter listeners", "port_exporter listeners"+flag)
	next := ours.Replace(v.Next)
	switch v.Place {
	case Here, OnTheWay, Undecided:
		if next == v.Next && next != "" {
			next += " (in network namespace " + name + ")"
		}
	default:
	}
	v.Next = next
	return v
}

// noNamespace says that the network namespace of the target was not found.
func (f *Facts) noNamespace() string {
	if f.Result.Outcome == probe.Unreachable {
		return "cannot be reached: this host has no network namespace " + f.Target.Netns
	}
	return "was not tried: which network namespace is meant by " + f.Target.Netns + " is unknown"
}
