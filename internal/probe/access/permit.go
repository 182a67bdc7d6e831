package access

import (
	"net/netip"
	"sync"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// Permit is what one probe on request may reach. Its prober asks for each host
// before it is resolved, and for each address before it is connected to. It is
// safe for concurrent use.
type Permit struct {
	access   *Control
	module   *probe.Module
	host     string // of the target
	hostname string // that the client chose for it; may be empty

	mu     sync.Mutex
	callee callee // whom the addresses that are asked for belong to
}

// AllowHost is [probe.Request].AllowHost. The hostname is for the target's own host: a
// redirect leads to a host that has its own name.
func (p *Permit) AllowHost(host string) error {
	hostname := ""
	if probe.CanonicalHost(host) == probe.CanonicalHost(p.host) {
		hostname = p.hostname
	}
	c := newCallee(host, hostname)
	if len(c.names) > 0 {
		if err := p.access.checkNames(p.module, c, probe.AnyPort); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.callee = c
	return nil
}

// Allow is [probe.Request].Allow.
func (p *Permit) Allow(to netip.AddrPort) error {
	if !to.IsValid() {
		return deny("the proxy of the module would resolve the name itself, and may reach another address than this host would",
			"add it to targets, or request https, which a proxy forwards to the address that was checked")
	}
	p.mu.Lock()
	c := p.callee
	p.mu.Unlock()
	return p.access.check(p.module, c, to.Addr(), int(to.Port()))
}
