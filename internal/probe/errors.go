package probe

import (
	"errors"
	"fmt"
)

// A Fault is an error whose meaning is known where it is found, so that its text
// is for people only.
type Fault struct {
	Outcome Outcome
	Origin  Origin
	Err     error
}

// Error implements error.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns the error behind the fault.
func (f *Fault) Unwrap() error { return f.Err }

// TargetFault is a fault of the target.
func TargetFault(outcome Outcome, err error) error { return &Fault{outcome, OriginTarget, err} }

// DeniedError says why a probe is not allowed. Its hint says how to allow it, and
// may be empty.
type DeniedError struct {
	Reason, Hint string
	// NoHost reports that it led to 0.0.0.0 or ::, which is the address of no host.
	NoHost bool
}

// Error implements error.
func (e *DeniedError) Error() string {
	if e.Hint == "" {
		return e.Reason
	}
	return e.Reason + "\nhint: " + e.Hint
}

// Deny returns the error of [Request].Allow or AllowHost as a [*DeniedError].
func Deny(err error) error {
	if denied, ok := AsDenied(err); ok {
		return denied
	}
	return &DeniedError{Reason: err.Error()}
}

// AsDenied returns the denial in an error.
func AsDenied(err error) (*DeniedError, bool) { return errors.AsType[*DeniedError](err) }

// ConfigError says that the TLS settings of a module cannot be used: a file is
// missing or wrong.
type ConfigError struct{ Err error }

// Error implements error.
func (e *ConfigError) Error() string { return "tls configuration: " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

// ProxyError is what a proxy answers in place of a connection.
type ProxyError struct {
	Outcome Outcome
	Text    string // what it does, behind its name
}

// Error implements error.
func (e *ProxyError) Error() string { return "it " + e.Text }

// NoAddressError says that a name has no address of the wanted version of IP.
type NoAddressError struct{ Err error }

// Error implements error.
func (e *NoAddressError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the resolution.
func (e *NoAddressError) Unwrap() error { return e.Err }

// UnreachedError says that no name server was reached, so that none answered.
type UnreachedError struct {
	Server string
	Err    error
	Local  bool // it failed before a packet was sent
}

// Error implements error.
func (e *UnreachedError) Error() string { return fmt.Sprintf("name server %s: %v", e.Server, e.Err) }

// Unwrap returns the error of the socket.
func (e *UnreachedError) Unwrap() error { return e.Err }

// NoClientCertificateError says that a TLS handshake failed in which the server
// asked for a client certificate that the module does not have.
type NoClientCertificateError struct{ Err error }

// Error implements error.
func (e *NoClientCertificateError) Error() string {
	return e.Err.Error() + "\nhint: the server asks for a client certificate, and the module has none: cert_file and key_file of tls_config"
}

// Unwrap returns the error of the handshake.
func (e *NoClientCertificateError) Unwrap() error { return e.Err }

// TooLargeError says that a packet does not fit into the MTU of the path.
type TooLargeError struct {
	Size, MTU int       // in bytes, with the header of IP
	ICMP      ICMPError // what the router reports; the zero value if it is this host
}

// Error implements error.
func (e *TooLargeError) Error() string {
	by := "this host"
	if e.ICMP.Offender.IsValid() {
		by = e.ICMP.Offender.String()
	}
	return fmt.Sprintf("a packet of %d bytes is larger than the path takes: MTU %d, as %s reports\nhint: a smaller payload_size, or dont_fragment: false", e.Size, e.MTU, by)
}

// Malformed is the result for a target that is none for its prober. Nothing was
// sent; but this host lacks nothing, so it counts as a failure, as in
// blackbox_exporter.
func Malformed(err error) *Result {
	return &Result{Outcome: Unknown, Phase: PhaseResolve, Origin: OriginLocal, Err: err}
}
