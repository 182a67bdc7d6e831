package probe

import "net/netip"

// Access says what may be probed on request besides the configured targets.
// Its zero value is nothing.
type Access struct {
	// Any allows every target that is neither link-local nor of a cloud's
	// metadata service, with modules that hold no credentials.
	Any bool
	// Rules allow what one of them matches.
	Rules []AccessRule
	// DebugAnywhere shows debug=true to clients that are not on loopback.
	DebugAnywhere bool
}

// AccessRule matches an address, after the name was resolved, with a module.
// An empty list matches everything, but that of modules not those that hold
// credentials.
type AccessRule struct {
	Networks []netip.Prefix
	Ports    []PortRange
	Modules  []string
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }
