package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Destinations says which destinations of outbound connections are told with the
// ephemeral ports that they use.
type Destinations struct {
	// MinShare is the least share of the ephemeral ports with which one is told.
	MinShare float64
	// Watched are told whatever they use.
	Watched []WatchedDestination
}

// WatchedDestination is a network, or a host whose addresses are looked up.
type WatchedDestination struct {
	Network netip.Prefix // the zero value when there is a Host
	Host    string
	Ports   []socket.PortRange // none means every port
}

// Hosts returns the host names, each once.
func (d Destinations) Hosts() []string {
	var hosts []string
	for _, w := range d.Watched {
		if w.Host != "" && !slices.Contains(hosts, w.Host) {
			hosts = append(hosts, w.Host)
		}
	}
	return hosts
}

// rawDestinations has the shape of the section destinations.
type rawDestinations struct {
	MinShare float64      `yaml:"min_share"`
	Watch    []rawWatched `yaml:"watch,omitempty"`
}

type rawWatched struct {
	Address remoteAddress     `yaml:"address"`
	Ports   list[remotePorts] `yaml:"ports,omitempty"`

	line int
}

func (w *rawWatched) setLine(line int) { w.line = line }

// maxWatch bounds the list: each new destination is compared with all of it.
const maxWatch = 256

func (d rawDestinations) validate() (Destinations, error) {
	result := Destinations{MinShare: d.MinShare}
	var faults []error
	// What weighs less than half of it is not told, and nothing below a
	// thousandth is known.
	if !(0.002 <= d.MinShare && d.MinShare <= 1) {
		faults = append(faults, fmt.Errorf("destinations.min_share: %v is out of range\nhint: it must be from 0.002 to 1; 0.01 is one in a hundred ports", d.MinShare))
	}
	if len(d.Watch) > maxWatch {
		faults = append(faults, fmt.Errorf("destinations.watch: %d is more than %d\nhint: a network stands for many addresses: 10.0.0.0/8", len(d.Watch), maxWatch))
	}
	for i, w := range d.Watch {
		if !w.Address.isValid() {
			faults = append(faults, fmt.Errorf("line %d: destinations.watch[%d].address: it is missing\nhint: an address, a network or a host name", w.line, i))
		}
		ports := convert(w.Ports, func(p remotePorts) socket.PortRange { return p.PortRange })
		result.Watched = append(result.Watched, WatchedDestination{w.Address.Prefix, w.Address.host, ports})
	}
	return result, errors.Join(faults...)
}

// remoteAddress is an address, a network or a host name.
type remoteAddress struct {
	address
	host string
}

func (a remoteAddress) isValid() bool { return a.host != "" || a.IsValid() }

// hostName is what looks like a name and not like an address (RFC 1123, section
// 2.1), with the underscore that some have.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)

// address-like are digits and dots only: 192.0.2.300 is no name.
var addressLike = regexp.MustCompile(`^[0-9.]+$`)

func (a *remoteAddress) UnmarshalText(written []byte) error {
	if hostName.Match(written) && !addressLike.Match(written) {
		a.host = string(written)
		return nil
	}
	if err := a.address.UnmarshalText(written); err != nil {
		return fmt.Errorf("%q is neither an address nor a host name\nhint: write 192.0.2.1, \"2001:db8::1\", 10.0.0.0/8 or db.example.com, and the port as ports: 5432", written)
	}
	return nil
}

func (a remoteAddress) MarshalYAML() (any, error) {
	if a.host != "" {
		return a.host, nil
	}
	return a.address.MarshalYAML()
}

// remotePorts is a port or a range of them.
type remotePorts struct{ ports }

func (p *remotePorts) UnmarshalText(written []byte) error {
	if err := p.ports.UnmarshalText(written); err != nil {
		return err
	}
	if p.ephemeral {
		return errors.New("the ports of another host are not known to be ephemeral\nhint: write a port, or a range such as 8000-8100")
	}
	return nil
}
