package check

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// names is about the resolution of names.
func (r *Report) names() []Evidence {
	var all []Evidence
	for i := range r.Lookups {
		l := &r.Lookups[i]
		if l.Err != nil {
			all = append(all, Evidence{Failed, "name", fmt.Sprintf("%s has no address that can be used%s, %s", l.Host, asked(l), took(l.Duration))})
		} else {
			all = append(all, Evidence{OK, "name", fmt.Sprintf("%s is %s%s, %s", alias(l), join(l.Addresses), asked(l), took(l.Duration))})
		}
	}
	return append(all, r.deadServers()...)
}

// deadServers is about the name servers that lookups waited for in vain.
func (r *Report) deadServers() []Evidence {
	var all []Evidence
	add := func(mark Mark, text string) {
		if e := (Evidence{mark, "name", text}); !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	for i := range r.Lookups {
		u := r.unheardBy(&r.Lookups[i])
		switch {
		case len(u.silent) == 0:
		case r.Lookups[i].Err == nil:
			for _, server := range u.silent {
				add(Failed, server+" does not answer: each lookup waits for it before it asks the next server of /etc/resolv.conf")
			}
		default:
			for _, server := range u.unasked {
				add(Unknown, server+" of /etc/resolv.conf was not asked: the time was up")
			}
		}
	}
	return all
}

// unheard are the name servers that a lookup waited for in vain, and those that it did not
// ask.
type unheard struct {
	silent, unasked []string
}

// unheardBy compares the answers of a lookup with the name servers that there are.
func (r *Report) unheardBy(l *probe.Lookup) (u unheard) {
	answered, asked := map[string]bool{}, []string(nil)
	for i := range l.Answers {
		a := &l.Answers[i]
		answered[a.Server] = answered[a.Server] || a.Code != ""
		if !slices.Contains(asked, a.Server) {
			asked = append(asked, a.Server)
		}
	}
	for _, server := range asked {
		if !answered[server] {
			u.silent = append(u.silent, server)
		}
	}
	if r.nameServers == nil {
		return u
	}
	for _, server := range *r.nameServers {
		if len(asked) > 0 && !slices.Contains(asked, server) {
			u.unasked = append(u.unasked, server)
		}
	}
	return u
}

// askedServers reports whether a name server was asked, and not /etc/hosts or the C library.
func (r *Report) askedServers() bool {
	return slices.ContainsFunc(r.Lookups, func(l probe.Lookup) bool { return len(l.Answers) > 0 })
}

// failedLookup returns what is known of the last lookup, if it failed.
func (r *Report) failedLookup() (n verdict.Names) {
	if len(r.Lookups) == 0 || r.Lookups[len(r.Lookups)-1].Err == nil {
		return n
	}
	l := &r.Lookups[len(r.Lookups)-1]
	u := r.unheardBy(l)
	n.Silent, n.Unasked, n.None = u.silent, u.unasked, r.nameServers != nil && len(*r.nameServers) == 0
	n.Gone = len(l.Answers) > 0 && !slices.ContainsFunc(l.Answers, func(a probe.NameAnswer) bool { return a.Code != "NXDOMAIN" })
	for i := range l.Answers {
		switch a := &l.Answers[i]; a.Code {
		case "NOERROR", "NXDOMAIN":
			n.Empty = n.Empty || a.Code == "NOERROR"
			if len(a.Aliases) > 0 {
				n.Alias, n.Missing = a.Name, a.Aliases[len(a.Aliases)-1]
			}
		case "":
			if !slices.Contains(u.silent, a.Server) {
				n.Unanswered = a.Type
			}
		default:
			n.Error = a.Server + " answers " + a.Code
		}
	}
	return n
}

// alias returns a name with the aliases that lead to its address.
func alias(l *probe.Lookup) string {
	for _, a := range l.Answers {
		if len(a.Aliases) > 0 && len(a.Addresses) > 0 {
			return strings.Join(append([]string{l.Host}, a.Aliases...), " → ")
		}
	}
	return l.Host
}

// asked says which name servers said what to which questions.
func asked(l *probe.Lookup) string {
	if len(l.Answers) == 0 {
		switch {
		case inHostsFile(l.Host):
			return ", as /etc/hosts has it"
		default:
			return ", as this system resolves it"
		}
	}
	var parts []string
	for server, names := range answersOf(l) {
		parts = append(parts, server+": "+strings.Join(names, ", "))
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

// answersOf yields the name servers that were asked, each with what it said of the names,
// a name once: found, none, an error, or nothing. Which of A and AAAA is asked for first
// is a race, so they are sorted.
func answersOf(l *probe.Lookup) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		type name struct{ server, name string }
		said := map[name][]string{}
		var order []name
		for _, a := range slices.SortedStableFunc(slices.Values(l.Answers), func(a, b probe.NameAnswer) int { return strings.Compare(a.Type, b.Type) }) {
			said[name{a.Server, a.Name}] = append(said[name{a.Server, a.Name}], a.Type+" "+saidOf(&a))
		}
		for _, a := range l.Answers {
			if n := (name{a.Server, a.Name}); !slices.Contains(order, n) {
				order = append(order, n)
			}
		}
		for len(order) > 0 {
			server, texts := order[0].server, []string(nil)
			order = slices.DeleteFunc(order, func(n name) bool {
				if n.server == server {
					texts = append(texts, oneName(n.name, l.Host, slices.Compact(said[n])))
				}
				return n.server == server
			})
			if !yield(server, texts) {
				return
			}
		}
	}
}

// oneName says what a server said of a name. What it said of A and AAAA alike is said
// once, and so is the name of the target, by the line that it is in.
func oneName(name, host string, said []string) string {
	text := strings.Join(said, ", ")
	if len(said) == 2 && strings.TrimPrefix(said[0], "A ") == strings.TrimPrefix(said[1], "AAAA ") {
		text = strings.TrimPrefix(said[0], "A ")
	}
	if name == host {
		return text
	}
	return name + " " + text
}

func saidOf(a *probe.NameAnswer) string {
	switch {
	case a.Code == "NOERROR" && len(a.Addresses) == 0:
		return "none"
	case a.Code == "NOERROR":
		return "found"
	default:
		return cmp.Or(a.Code, "no answer")
	}
}
