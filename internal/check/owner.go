package check

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// maxOwners bounds how many owners of a listener are named.
const maxOwners = 3

// Name names the owner of the listener for a sentence, as in "nginx (pid 7,
// nginx.service)"; it is empty if the owner is unknown.
func (l *Listener) Name() string {
	return l.each(func(o socket.Owner) string { return name(o, false) })
}

// inFull is Name with the user.
func (l *Listener) inFull() string {
	return l.each(func(o socket.Owner) string { return name(o, true) })
}

func (l *Listener) each(name func(socket.Owner) string) string {
	var names []string
	for _, o := range l.Owners {
		if n := name(o); n != "" {
			names = append(names, n)
		}
	}
	if len(names) > maxOwners {
		names = append(names[:maxOwners], fmt.Sprintf("%d more", len(names)-maxOwners))
	}
	return strings.Join(names, " and ")
}

// name names an owner. Of a process that is unknown its unit or container is named.
func name(o socket.Owner, withUser bool) string {
	var about []string
	if o.PID != 0 {
		about = append(about, fmt.Sprintf("pid %d", o.PID))
	}
	if where := cmp.Or(o.Unit, o.Container); where != "" && o.Process != "" {
		about = append(about, where)
	}
	if o.User != "" && withUser {
		about = append(about, "user "+o.User)
	}
	who := o.Process
	switch {
	case who != "":
	case o.Unit != "" || o.Container != "":
		who = "a process of " + cmp.Or(o.Unit, o.Container)
	case withUser && o.User != "":
		who = "a process that is unknown"
	default:
		return ""
	}
	if len(about) == 0 {
		return who
	}
	return fmt.Sprintf("%s (%s)", who, strings.Join(about, ", "))
}

// holderName names an owner of connections, of whom there may be many.
func holderName(o socket.Owner) string {
	if o.Process == "" {
		return cmp.Or(o.Unit, o.Container)
	}
	return o.Process
}
