package verdict

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// Names is what name servers made of the name that failed, and which there are.
type Names struct {
	Silent []string // those that answered nothing, as host:port
	// Unanswered is the type, A or AAAA, that a server did not answer while it answered
	// the other; empty if there is none.
	Unanswered string
	Unasked    []string // those of /etc/resolv.conf whose turn did not come
	// Alias is a name that leads to Missing by its CNAME records, which has no address or,
	// as Gone says, does not exist; empty if there is none.
	Alias, Missing string
	Gone           bool // no name server knows the name, or Missing
	Empty          bool // the name exists, and has no address
	// None says that /etc/resolv.conf names no server, so that one of this host was asked.
	None  bool
	Error string // a server and its error, as in "192.0.2.53:53 answers SERVFAIL"; empty if there is none
}

func (f *Facts) nameService(c Code, address string) string {
	name := nameOf(f.Result.Err)
	if name == "" {
		name = "the name in " + address
	}
	if f.Names.None && (c == NameServerUnreached || c == NameServerSilent) {
		return fmt.Sprintf("%s was not tried: /etc/resolv.conf names no name server, and none answers on this host for %s", address, name)
	}
	switch c {
	case NameNotFound:
		return fmt.Sprintf("%s was not tried: %s", address, f.missingName(name))
	case NoAddressOfFamily:
		return fmt.Sprintf("%s was not tried: the name has no address of the wanted family (%s)", address, name)
	case NameBlocked:
		return address + " was not tried: its name leads to 0.0.0.0 or ::, the address of no host: the name server blocks it, or the record is a placeholder"
	case NameServerFails:
		return fmt.Sprintf("%s was not tried: the name server %s for %s", address, cmp.Or(f.Names.Error, "answers with an error"), name)
	case NameServerUnreached:
		unreached, _ := errors.AsType[*probe.UnreachedError](f.Result.Err)
		return fmt.Sprintf("%s was not tried: the name server %s cannot be reached", address, unreached.Server)
	default:
		return fmt.Sprintf("%s was not tried: the name server%s for %s%s", address, f.silentServers(), name, f.unaskedServers())
	}
}

// missingName says of a name what is known to be missing.
func (f *Facts) missingName(name string) string {
	lack := "does not exist, or has no address"
	switch n := &f.Names; {
	case n.Gone:
		lack = "does not exist"
	case n.Empty:
		lack = "has no address"
	}
	if f.Names.Alias != "" {
		return fmt.Sprintf("%s is an alias of %s, which %s", f.Names.Alias, f.Names.Missing, lack)
	}
	return fmt.Sprintf("the name %s (%s)", lack, name)
}

// silentServers says which name servers do not answer, and what.
func (f *Facts) silentServers() string {
	switch n := &f.Names; {
	case len(n.Silent) == 1:
		return " " + n.Silent[0] + " does not answer"
	case len(n.Silent) > 1:
		return "s " + strings.Join(n.Silent, " and ") + " do not answer"
	case n.Unanswered != "":
		return " does not answer the question of type " + n.Unanswered
	default:
		return " does not answer"
	}
}

// unaskedServers says which name servers were not asked, since those before them were
// waited for.
func (f *Facts) unaskedServers() string {
	switch unasked := f.Names.Unasked; len(unasked) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; %s, the next of /etc/resolv.conf, was not asked in time", unasked[0])
	default:
		return fmt.Sprintf("; %s, the next of /etc/resolv.conf, were not asked in time", strings.Join(unasked, " and "))
	}
}

// nextOfServers says which line of /etc/resolv.conf to mend.
func (f *Facts) nextOfServers(c Code) string {
	switch {
	case f.Names.None:
		return "add the line nameserver ADDRESS to /etc/resolv.conf"
	case c == NameServerSilent:
		return f.nextOfSilence()
	default:
		return f.nextOfUnreached()
	}
}

// nextOfUnreached asks for the way to the name server.
func (f *Facts) nextOfUnreached() string {
	unreached, _ := errors.AsType[*probe.UnreachedError](f.Result.Err)
	server, err := netip.ParseAddrPort(unreached.Server)
	if err != nil {
		return Of(NameServerUnreached).Next
	}
	return fmt.Sprintf("ip route get %s; correct the name server in /etc/resolv.conf", server.Addr().WithZone(""))
}

// nextOfSilence names the server that is dead, unless it is one of this host, which waits
// for another.
func (f *Facts) nextOfSilence() string {
	next := f.fill(Of(NameServerSilent).Next)
	if len(f.Names.Silent) == 0 {
		return next
	}
	dead, err := netip.ParseAddrPort(f.Names.Silent[0])
	if err != nil || dead.Addr().IsLoopback() {
		return next
	}
	return fmt.Sprintf("dig @%s %s; mend %s, or remove it from /etc/resolv.conf", dead.Addr(), f.fill("NAME"), dead.Addr())
}

// nameOf returns the name that an error of the resolver is about.
func nameOf(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Name
	}
	return ""
}
