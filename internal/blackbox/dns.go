package blackbox

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"

	"github.com/miekg/dns"
	"github.com/prometheus/blackbox_exporter/config"

	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

// newDNS makes our prober of the settings of blackbox_exporter's. It loads what
// that loads: settings that cannot be used are an error of each probe.
func newDNS(s config.DNSProbe, f *files.Reader) *prober.DNS {
	p := &prober.DNS{
		Resolution: Resolution(s.IPProtocol, s.IPProtocolFallback),
		Recursion:  s.Recursion,
		TCP:        s.TransportProtocol == "tcp",
		TLS:        s.DNSOverTLS,
		TLSConfig:  TLSConfig(s.TLSConfig, f),
	}
	p.SourceAddress, _ = netip.ParseAddr(s.SourceIPAddress)
	p.Unusable = checkTransport(&s)
	if p.Unusable == nil {
		p.Question, p.Unusable = questionOf(&s)
	}
	p.Unjudged = readRules(p, &s)
	return p
}

func checkTransport(s *config.DNSProbe) error {
	switch {
	case s.TransportProtocol != "" && s.TransportProtocol != "udp" && s.TransportProtocol != "tcp":
		return fmt.Errorf("transport_protocol: %q is not a transport\nhint: it is udp or tcp; dns_over_tls: true with tcp is TLS", s.TransportProtocol)
	case s.DNSOverTLS && s.TransportProtocol != "tcp":
		return errors.New("dns_over_tls: TLS needs a stream\nhint: transport_protocol: tcp")
	default:
		return nil
	}
}

// readRules reads what an answer must be.
func readRules(p *prober.DNS, s *config.DNSProbe) (err error) {
	if p.ValidRcodes, err = rcodesOf(s.ValidRcodes); err != nil {
		return err
	}
	for key, of := range map[string]struct {
		from *config.DNSRRValidator
		to   *prober.RecordRules
	}{
		"validate_answer_rrs":     {&s.ValidateAnswer, &p.Answer},
		"validate_authority_rrs":  {&s.ValidateAuthority, &p.Authority},
		"validate_additional_rrs": {&s.ValidateAdditional, &p.Additional},
	} {
		if *of.to, err = recordRules(of.from); err != nil {
			return fmt.Errorf("%s.%w", key, err)
		}
	}
	return nil
}

func questionOf(s *config.DNSProbe) (dns.Question, error) {
	q := dns.Question{Name: dns.Fqdn(s.QueryName), Qtype: dns.TypeANY, Qclass: dns.ClassINET}
	var known bool
	if s.QueryType != "" {
		if q.Qtype, known = dns.StringToType[s.QueryType]; !known {
			return q, fmt.Errorf("query_type: %q is not a type of records\nhint: in capital letters, such as AAAA", s.QueryType)
		}
	}
	if s.QueryClass != "" {
		if q.Qclass, known = dns.StringToClass[s.QueryClass]; !known {
			return q, fmt.Errorf("query_class: %q is not a class\nhint: in capital letters, such as IN or CH", s.QueryClass)
		}
	}
	return q, nil
}

func rcodesOf(names []string) ([]int, error) {
	if names == nil {
		return []int{dns.RcodeSuccess}, nil
	}
	codes := make([]int, len(names))
	for i, name := range names {
		code, known := dns.StringToRcode[name]
		if !known {
			return nil, fmt.Errorf("valid_rcodes[%d]: %q is not a response code\nhint: in capital letters, such as NXDOMAIN", i, name)
		}
		codes[i] = code
	}
	return codes, nil
}

func recordRules(v *config.DNSRRValidator) (r prober.RecordRules, err error) {
	for _, of := range []struct {
		key  string
		from []string
		to   *[]*regexp.Regexp
	}{
		{"fail_if_matches_regexp", v.FailIfMatchesRegexp, &r.FailIfMatches},
		{"fail_if_all_match_regexp", v.FailIfAllMatchRegexp, &r.FailIfAllMatch},
		{"fail_if_not_matches_regexp", v.FailIfNotMatchesRegexp, &r.FailIfNotMatches},
		{"fail_if_none_matches_regexp", v.FailIfNoneMatchesRegexp, &r.FailIfNoneMatches},
	} {
		for i, text := range of.from {
			re, err := regexp.Compile(text)
			if err != nil {
				return r, fmt.Errorf("%s[%d]: %w", of.key, i, err)
			}
			*of.to = append(*of.to, re)
		}
	}
	return r, nil
}
