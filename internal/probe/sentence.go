package probe

import (
	"fmt"
	"strings"
)

// Sentence says in words what a result means, for people: what was found, who
// said so, and what that hints at. It ends without a full stop.
func (r *Result) Sentence(address string) string {
	address = Redact(address, address)
	switch r.Outcome {
	case Open:
		return address + " is open"
	case Refused:
		return fmt.Sprintf("%s refuses: %s", address, r.refusal())
	case Timeout:
		return fmt.Sprintf("%s does not answer in time (%s): %s", address, r.Phase, r.silence())
	case Unreachable:
		return fmt.Sprintf("%s cannot be reached: %s", address, r.sayer("no route, or a host that is down"))
	case Prohibited:
		return fmt.Sprintf("%s is prohibited by a rule: %s", address, r.sayer("a firewall or an access list"))
	case Reset:
		return fmt.Sprintf("%s accepts and then resets the connection", address)
	case Closed:
		return fmt.Sprintf("%s accepts and then closes the connection before it has answered", address)
	case DNSNotFound:
		return fmt.Sprintf("the name in %s does not exist, or has no address of the wanted family", address)
	case DNSError:
		return fmt.Sprintf("the name server answers the question for %s with an error", address)
	case DNSTimeout:
		return fmt.Sprintf("the name server does not answer the question for %s", address)
	case TLSCertificate:
		return fmt.Sprintf("%s is open, and its certificate is not to be trusted", address)
	case TLSHandshake:
		return fmt.Sprintf("%s is open, and the TLS handshake fails", address)
	case Mismatch:
		return fmt.Sprintf("%s answers, and not what is expected", address)
	case Status:
		return fmt.Sprintf("%s answers with a status that is not expected", address)
	case NoReply:
		return fmt.Sprintf("%s does not reply: open or filtered, which UDP cannot tell apart", address)
	case Protocol:
		return fmt.Sprintf("%s answers against the rules of its protocol", address)
	case LocalError:
		return fmt.Sprintf("%s was not tried: this host lacks descriptors, ports or memory", address)
	case Denied:
		return fmt.Sprintf("%s was not tried: port_exporter is not allowed to", address)
	case NotRun:
		return fmt.Sprintf("%s was not tried: there was no time or no slot", address)
	default:
		return fmt.Sprintf("the probe of %s failed in a way that has no name", address)
	}
}

func (r *Result) refusal() string {
	switch r.Origin {
	case OriginTargetFirewall:
		return "a firewall on the target rejects it"
	case OriginNetwork:
		return fmt.Sprintf("%s on the way rejects it", r.Offender)
	case OriginLocal:
		return "a firewall on this host rejects it"
	case OriginTarget, OriginNone:
		return "the host is up and nothing listens there (or a firewall answers with a reset)"
	default:
		return "by " + r.Origin.String()
	}
}

func (r *Result) silence() string {
	if r.Phase == PhaseConnect || r.Phase == PhaseNone {
		return "filtered, or the accept queue is full, or the way back is broken"
	}
	return "it accepts connections, so the service hangs or the path loses large packets"
}

// sayer says who said it, else what it may have been.
func (r *Result) sayer(otherwise string) string {
	switch {
	case r.Origin == OriginLocal && r.Offender.IsValid():
		return "this host says so: no neighbour answers for it, or a rule here forbids it"
	case r.Origin == OriginLocal:
		return "by a route or rule of this host"
	case r.Offender.IsValid():
		return fmt.Sprintf("%s says so (%s)", r.Offender, strings.ReplaceAll(r.Origin.String(), "_", " "))
	default:
		return otherwise
	}
}
