package dial

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// maxNoted bounds the questions of a lookup that are noted with their answers, and the
// records of each.
const maxNoted = 32

// unnoted is the index of a question that is not noted.
const unnoted = -1

// noteQuestion notes a question for the details, and returns its index.
func (l *lookup) noteQuestion(server string, q dnsmessage.Question) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.details == nil || len(l.noted) == maxNoted {
		return unnoted
	}
	l.noted = append(l.noted, probe.NameAnswer{Server: server, Name: strings.TrimSuffix(q.Name.String(), "."), Type: strings.TrimPrefix(q.Type.String(), "Type")})
	return len(l.noted) - 1
}

// noteAnswer notes the answer to a question. The parser is behind the header.
func (l *lookup) noteAnswer(question int, code dnsmessage.RCode, p *dnsmessage.Parser, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.details == nil || question == unnoted {
		return
	}
	noted := &l.noted[question]
	noted.Code, noted.Duration = rcodeName(code), took
	noted.Aliases, noted.Addresses = nil, nil
	if p.SkipAllQuestions() != nil {
		return
	}
	for range maxNoted {
		r, err := p.Answer()
		if err != nil {
			return
		}
		switch body := r.Body.(type) {
		case *dnsmessage.CNAMEResource:
			noted.Aliases = append(noted.Aliases, strings.TrimSuffix(body.CNAME.String(), "."))
		case *dnsmessage.AResource:
			noted.Addresses = append(noted.Addresses, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			noted.Addresses = append(noted.Addresses, netip.AddrFrom16(body.AAAA))
		}
	}
}

// noteEnd adds the lookup to the details of the probe.
func (l *lookup) noteEnd(host string, addrs []netip.Addr, err error, took time.Duration) {
	if l.details == nil {
		return
	}
	l.mu.Lock()
	answers := slices.Clone(l.noted) // a late answer may still come
	l.mu.Unlock()
	l.details.AddLookup(probe.Lookup{Host: host, Addresses: addrs, Duration: took, Answers: answers, Err: err})
}

// rcodeName returns the mnemonic of RFC 1035 and RFC 2136.
func rcodeName(code dnsmessage.RCode) string {
	switch code {
	case dnsmessage.RCodeSuccess:
		return "NOERROR"
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNameError:
		return "NXDOMAIN"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	default:
		return code.String()
	}
}
