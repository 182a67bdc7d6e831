package probe

// Outcome says what became of an attempt to reach a target. Its number is the
// value of probe_outcome_code and never changes.
type Outcome uint8

// The outcomes.
const (
	Open           Outcome = iota // reached, and all that was asked of it came
	Refused                       // ECONNREFUSED: an RST, or an ICMP port unreachable
	Timeout                       // nothing came in time
	Unreachable                   // no route, or a host that is down
	Prohibited                    // an ICMP "administratively prohibited", or a local rule
	Reset                         // the connection was made and reset
	Closed                        // the connection was made, and ended before the exchange was over
	DNSNotFound                   // the name does not exist, or has no such address
	DNSError                      // the name server answered with an error
	DNSTimeout                    // the name server did not answer
	TLSCertificate                // the certificate is not to be trusted
	TLSHandshake                  // the handshake failed in another way
	Mismatch                      // an answer came, and was not the expected one
	Status                        // an HTTP, gRPC or DNS status that is not expected
	NoReply                       // UDP: sent and not answered; open or filtered
	Protocol                      // an answer that the protocol does not allow
	LocalError                    // something on this host kept the probe from trying: a shortage, a file, a right
	Denied                        // the exporter is not allowed to probe this address
	NotRun                        // no time or no slot was left to try
	Unknown                       // none of the above
	NumOutcomes
)

var outcomeNames = [NumOutcomes]string{
	"open", "refused", "timeout", "unreachable", "prohibited", "reset", "closed", "dns_not_found", "dns_error",
	"dns_timeout", "tls_certificate", "tls_handshake", "mismatch", "status", "no_reply", "protocol", "local_error",
	"denied", "not_run", "unknown",
}

// String returns the outcome as it stands in the label reason.
func (o Outcome) String() string { return nameOf(outcomeNames[:], int(o)) }

// Tried reports whether the outcome is about the target: not when our own
// shortage kept us from trying.
func (o Outcome) Tried() bool { return o != LocalError && o != Denied && o != NotRun }

// Outcomes returns every outcome, in the order of their numbers.
func Outcomes() []Outcome {
	all := make([]Outcome, NumOutcomes)
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// Phase is a part of a probe.
type Phase uint8

// The phases, in their order.
const (
	PhaseNone Phase = iota
	PhaseResolve
	PhaseConnect
	PhaseTLS
	PhaseExchange
	NumPhases
)

var phaseNames = [NumPhases]string{"", "resolve", "connect", "tls", "exchange"}

// String returns the phase as it stands in the label phase.
func (p Phase) String() string { return nameOf(phaseNames[:], int(p)) }

// Labels returns the phase as the value of the one label phase. It is shared: do
// not change it.
func (p Phase) Labels() []string {
	if p >= NumPhases {
		return []string{p.String()}
	}
	return phaseLabels[p]
}

var phaseLabels = [NumPhases][]string{{""}, {"resolve"}, {"connect"}, {"tls"}, {"exchange"}}

// Origin is who said that the target cannot be reached.
type Origin uint8

// The origins.
const (
	OriginNone           Origin = iota // silence, or nothing was said
	OriginTarget                       // the target's own stack or program
	OriginTargetFirewall               // an ICMP error from the target's address
	OriginNetwork                      // an ICMP error from another machine
	OriginLocal                        // this host
	OriginProxy                        // the proxy of the module
	numOrigins
)

var originNames = [numOrigins]string{"none", "target", "target_firewall", "network", "local", "proxy"}

// String returns the origin as it stands in the label origin.
func (o Origin) String() string { return nameOf(originNames[:], int(o)) }

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}
