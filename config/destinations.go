package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Destinations says which destinations of outbound connections are exported with the
// ephemeral ports that they use.
type Destinations struct {
	// MinShare is the least share of the ephemeral ports with which one is exported.
	MinShare float64
	// Watched are exported regardless of their use.
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
	MinShare share        `yaml:"min_share"`
	Watch    []rawWatched `yaml:"watch,omitempty"`
}

type rawWatched struct {
	Address remoteAddress     `yaml:"address"`
	Ports   list[remotePorts] `yaml:"ports,omitempty"`

	line int
}

func (w *rawWatched) SetLine(line int) { w.line = line }

// maxWatch bounds the list. Those that name one destination are all exported.
const maxWatch = 256

func (d rawDestinations) validate() (Destinations, error) {
	result := Destinations{MinShare: float64(d.MinShare)}
	var faults []error
	if len(d.Watch) > maxWatch {
		faults = append(faults, fmt.Errorf("line %d: destinations.watch[%d]: it is one more than %d\nhint: a network includes many addresses: 10.0.0.0/8", d.Watch[maxWatch].line, maxWatch, maxWatch))
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

// hostName is labels of letters, digits, hyphens and underscores, the last of
// which is not a number (RFC 1123, section 2.1): 192.0.2.300 is no name.
var (
	hostName   = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)
	endsNumber = regexp.MustCompile(`(^|\.)[0-9]+\.?$`)
)

func (a *remoteAddress) UnmarshalText(written []byte) error {
	if hostName.Match(written) && !endsNumber.Match(written) && len(written) < 254 {
		a.host = string(written)
		if a.host == "any" {
			return errors.New("any is not a host\nhint: every IPv4 address is 0.0.0.0/0, every IPv6 address \"::/0\"")
		}
		return nil
	}
	_, notAddress := netip.ParseAddr(string(written))
	_, notNetwork := netip.ParsePrefix(string(written))
	if notAddress != nil && notNetwork != nil {
		return fmt.Errorf("%q is neither an address nor a host name\nhint: write 192.0.2.1, \"2001:db8::1\", 10.0.0.0/8 or db.example.com, and the port as ports: 5432", written)
	}
	if addr, err := netip.ParseAddr(string(written)); err == nil && addr.Zone() != "" {
		return fmt.Errorf("%q has a zone\nhint: write %q; it includes every interface", written, addr.WithZone(""))
	}
	return a.address.UnmarshalText(written) // it says what to write instead
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
	err := p.ports.UnmarshalText(written)
	if err != nil || p.ephemeral {
		return fmt.Errorf("%q is not a port of another host\nhint: write a port from 1 to 65535, a range such as 8000-8100, or a list of them", written)
	}
	return nil
}

// share is a part of a whole.
type share float64

func (s *share) UnmarshalText(written []byte) error {
	n, err := strconv.ParseFloat(string(written), 64)
	// What weighs less than half of the least share is not exported, and nothing
	// below a thousandth is known.
	if err != nil || !(0.002 <= n && n <= 1) {
		return fmt.Errorf("%q is not a share of the ports\nhint: write a number from 0.002 to 1: 0.01 is one in a hundred", written)
	}
	*s = share(n)
	return nil
}
