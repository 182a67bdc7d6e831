package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// WithNames returns the rules with a name for each one that has none: what it
// expects, in short, as "sshd tcp/22 any". A name that is taken gets a number.
func WithNames(rules []Rule) []Rule {
	named := slices.Clone(rules)
	names := namer{taken: map[string]bool{"": true}, next: map[string]int{}}
	for _, r := range rules {
		names.taken[r.Name] = true
	}
	for i := range named {
		if named[i].Name == "" {
			named[i].Name = names.free(named[i].defaultName())
		}
	}
	return named
}

// namer gives out names that are not taken.
type namer struct {
	taken map[string]bool
	next  map[string]int // the number to try next, by what is wanted
}

func (n *namer) free(wanted string) string {
	for {
		candidate := wanted
		if n.next[wanted]++; n.next[wanted] > 1 {
			candidate = fmt.Sprintf("%s #%d", wanted, n.next[wanted])
		}
		if !n.taken[candidate] {
			n.taken[candidate] = true
			return candidate
		}
	}
}

// defaultName says who listens, on which port, and where.
func (r *Rule) defaultName() string {
	parts := []string{r.who(), r.service(), r.where(), few(r.Interfaces), few(r.Netns), few(r.Pods)}
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	name := cmp.Or(strings.Join(parts, " "), "everything")
	if r.Forbid {
		return "no " + name
	}
	return name
}

func (r *Rule) who() string {
	return cmp.Or(few(r.Processes), few(r.Executables), few(r.Units), few(r.Containers), few(r.Users))
}

// service returns tcp/22, or what the rule has of it.
func (r *Rule) service() string {
	ports := portNames(r.Ports)
	if r.Ephemeral {
		ports = append(ports, "ephemeral")
	}
	protocols := few(texts(r.Protocols))
	if slices.Equal(r.Filters, []socket.Filter{socket.HasFilter}) {
		protocols += " filter"
	}
	if protocols != "" && len(ports) > 0 {
		protocols += "/"
	}
	return protocols + few(ports)
}

func (r *Rule) where() string {
	if len(r.Paths) > 0 {
		return few(r.Paths)
	}
	if len(r.Addresses) == 0 {
		return few(texts(r.Scopes))
	}
	var out []string
	for _, prefix := range r.Addresses {
		out = append(out, addressName(prefix))
	}
	return few(slices.Compact(out))
}

// addressName returns the scope of the addresses that every host has, and the
// others as they are.
func addressName(p netip.Prefix) string {
	switch scope, known := scopeOf(p); {
	case known && (scope == socket.ScopeAny || scope == socket.ScopeLoopback):
		return scope.String()
	case p.IsSingleIP():
		return p.Addr().String()
	default:
		return p.String()
	}
}

// few joins the first of many.
func few(list []string) string {
	const enough = 3
	list = slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
	if len(list) <= enough {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s,+%d", strings.Join(list[:enough], ","), len(list)-enough)
}

func texts[T fmt.Stringer](list []T) []string {
	var out []string
	for _, item := range list {
		out = append(out, item.String())
	}
	return out
}

func portNames(ranges []socket.PortRange) []string {
	var out []string
	for _, ports := range ranges {
		text := fmt.Sprint(ports.First)
		if ports.First != ports.Last {
			text = fmt.Sprintf("%d-%d", ports.First, ports.Last)
		}
		out = append(out, text)
	}
	return out
}
