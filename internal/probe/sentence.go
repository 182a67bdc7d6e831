package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
)

// Sentence says in words what a result means, for people: what was found, who
// said so, and what that hints at. It ends without a full stop.
func (r *Result) Sentence(address string) string {
	unix := IsPath(address)
	address = Redact(address, address)
	if unix && r.Phase == PhaseConnect {
		if what := r.socket(); what != "" {
			return fmt.Sprintf("%s cannot be reached: %s", address, what)
		}
	}
	switch {
	case r.Origin == OriginProxy:
		return fmt.Sprintf("%s was not reached: the proxy %s %s", address, r.Proxy, r.proxyFault())
	case r.Redirect != "" && r.Outcome != Open:
		return fmt.Sprintf("%s redirects to %s: %s", address, r.Redirect, r.about(r.Redirect))
	default:
		return r.about(address)
	}
}

// proxyFault says what the proxy did in place of reaching the target.
func (r *Result) proxyFault() string {
	if answer, ok := errors.AsType[*ProxyError](r.Err); ok {
		return answer.Text
	}
	switch r.Outcome {
	case Refused:
		return "refuses the connection"
	case Timeout:
		return fmt.Sprintf("does not answer in time (%s)", r.Phase)
	case Unreachable, Prohibited:
		return "cannot be reached"
	case DNSNotFound:
		return "has a name that does not exist"
	case DNSError, DNSTimeout:
		return "has a name that cannot be resolved"
	case TLSCertificate:
		return "has a certificate that is not trusted"
	case TLSHandshake:
		return "fails the TLS handshake"
	case Status:
		return "rejects the request"
	case Reset, Closed:
		return "ends the connection before it answers"
	default:
		return "does not answer as its URL requires"
	}
}

// about says what the result means for the URL or address that it is about.
func (r *Result) about(address string) string {
	switch r.Outcome {
	case Open:
		return address + " is open"
	case Refused:
		return fmt.Sprintf("%s refuses: %s", address, r.refusal())
	case Timeout:
		return fmt.Sprintf("%s does not answer in time (%s): %s", address, r.Phase, r.silence())
	case Unreachable:
		return fmt.Sprintf("%s cannot be reached: %s", address, r.sayer("no route, a host that is down, or a firewall that says so"))
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
		if _, ok := errors.AsType[*UnreachedError](r.Err); ok {
			return fmt.Sprintf("no name server can be reached to resolve the name in %s", address)
		}
		return fmt.Sprintf("the name server does not answer the question for %s", address)
	case TLSCertificate:
		return fmt.Sprintf("%s is open, and its certificate is not to be trusted", address)
	case TLSHandshake:
		return fmt.Sprintf("%s is open, and the TLS handshake fails", address)
	case Mismatch:
		if large, ok := errors.AsType[*TooLargeError](r.Err); ok {
			return fmt.Sprintf("%s was not reached: the packet of %d bytes is larger than the path takes, MTU %d", address, large.Size, large.MTU)
		}
		return fmt.Sprintf("%s answers, and not what is expected", address)
	case Status:
		return fmt.Sprintf("%s answers with a status that is not expected", address)
	case NoReply:
		return fmt.Sprintf("%s does not reply: open or filtered, which UDP cannot distinguish", address)
	case Protocol:
		return fmt.Sprintf("%s answers against the rules of its protocol", address)
	case LocalError:
		return fmt.Sprintf("%s was not tried: %s", address, r.obstacle())
	case Denied:
		return fmt.Sprintf("%s was not tried: port_exporter is not allowed to", address)
	case NotRun:
		return fmt.Sprintf("%s was not tried: there was no time or no slot", address)
	default:
		if r.Origin == OriginLocal && r.Phase == PhaseResolve {
			return address + " is not an address that its module takes"
		}
		return fmt.Sprintf("the probe of %s failed in a way that has no name", address)
	}
}

func (r *Result) refusal() string {
	switch r.Origin {
	case OriginTargetFirewall:
		return "a firewall on the target rejects it"
	case OriginNetwork:
		return fmt.Sprintf("%s on the way rejects it", r.ICMP.Offender)
	case OriginLocal:
		return "a firewall on this host rejects it"
	case OriginTarget, OriginNone:
		return "the host is up and nothing listens there (or a firewall answers in its place)"
	default:
		return "by " + r.Origin.String()
	}
}

func (r *Result) silence() string {
	if r.Phase == PhaseTLS || r.Phase == PhaseExchange {
		return "it accepts connections, so the service hangs or the path loses large packets"
	}
	return "filtered, or down, or the way back is broken; or, of a TCP service, its accept queue is full"
}

// socket says what keeps the exporter from connecting to a unix-domain socket,
// which is the doing of no network; empty if it is nothing of its own.
func (r *Result) socket() string {
	switch r.Outcome {
	case Refused:
		return "nothing listens there"
	case Unreachable:
		return "there is no such path"
	case Prohibited:
		return "its permissions keep port_exporter out"
	case Protocol:
		return "it is a socket of another type"
	case Timeout:
		return "its accept queue is full"
	default:
		return ""
	}
}

// obstacle says what on this host kept the probe from trying.
func (r *Result) obstacle() string {
	call, isCall := errors.AsType[*os.SyscallError](r.Err)
	errno, isErrno := errors.AsType[syscall.Errno](r.Err)
	_, isFile := errors.AsType[*fs.PathError](r.Err)
	_, isVersion := errors.AsType[*net.AddrError](r.Err)
	_, isConfig := errors.AsType[*ConfigError](r.Err)
	switch {
	case isVersion, isCall && call.Syscall == "bind":
		return "the source address of its module cannot be used here"
	case isErrno && IsShortage(errno):
		return "this host lacks descriptors, ports, memory or an address family"
	case isFile:
		return "a file that its module names cannot be read"
	case isConfig:
		return "the TLS settings of its module cannot be used"
	case errors.Is(r.Err, fs.ErrPermission):
		return "port_exporter has no right to make such a socket; a ping may take CAP_NET_RAW"
	default:
		return "this host or its module is not fit for it"
	}
}

// sayer says who said it, else what it may have been.
func (r *Result) sayer(otherwise string) string {
	switch {
	case r.Origin == OriginLocal && r.ICMP.Offender.IsValid():
		return "this host says so: no neighbour answers for it, or a rule here forbids it"
	case r.Origin == OriginLocal:
		return "by a route or rule of this host"
	case r.ICMP.Offender.IsValid():
		return fmt.Sprintf("%s says so (%s)", r.ICMP.Offender, strings.ReplaceAll(r.Origin.String(), "_", " "))
	default:
		return otherwise
	}
}
