package dial

import (
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// maxTold bounds the questions and answers of a lookup that are told, and the records
// of each.
const maxTold = 32

// untold is the index of a question that nobody wants to be told of.
const untold = -1

// tellQuestion notes a question for the details, and returns its index.
func (l *lookup) tellQuestion(server string, q dnsmessage.Question) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.details == nil || len(l.told) == maxTold {
		return untold
	}
	l.told = append(l.told, probe.NameAnswer{Server: server, Name: strings.TrimSuffix(q.Name.String(), "."), Type: strings.TrimPrefix(q.Type.String(), "Type")})
	return len(l.told) - 1
}

// tellAnswer notes the answer to a question. The parser is behind the header.
func (l *lookup) tellAnswer(question int, code dnsmessage.RCode, p *dnsmessage.Parser, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.details == nil || question == untold {
		return
	}
	told := &l.told[question]
	told.Code, told.Duration = rcodeName(code), took
	told.Aliases, told.Addresses = nil, nil
	if p.SkipAllQuestions() != nil {
		return
	}
	for range maxTold {
		r, err := p.Answer()
		if err != nil {
			return
		}
		switch body := r.Body.(type) {
		case *dnsmessage.CNAMEResource:
			told.Aliases = append(told.Aliases, strings.TrimSuffix(body.CNAME.String(), "."))
		case *dnsmessage.AResource:
			told.Addresses = append(told.Addresses, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			told.Addresses = append(told.Addresses, netip.AddrFrom16(body.AAAA))
		}
	}
}

// noteEnd adds the lookup to the details of the probe.
func (l *lookup) noteEnd(host string, addrs []netip.Addr, err error, took time.Duration) {
	if l.details == nil {
		return
	}
	l.mu.Lock()
	answers := append([]probe.NameAnswer(nil), l.told...) // a late answer may still come
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
