package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/listenertls"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// rawListenerTLS has the shape of the section listener_tls.
type rawListenerTLS struct {
	Ports      []tlsPorts `yaml:"ports,omitempty,flow"`
	Interval   duration   `yaml:"interval"`
	ServerName plainText  `yaml:"server_name,omitempty"`

	lines keyLines
}

func (r *rawListenerTLS) SetKeyLine(key string, line int) { r.lines.set(key, line) }

// leastTLSInterval is much longer than a handshake, and much shorter than the time
// in which anyone renews a certificate.
const leastTLSInterval = time.Minute

func (r *rawListenerTLS) validate() (listenertls.Settings, error) {
	s := listenertls.Settings{Interval: time.Duration(r.Interval), ServerName: string(r.ServerName)}
	at := func(key, format string, args ...any) error {
		return fmt.Errorf("line %d: listener_tls.%s: %s", r.lines[key], key, fmt.Sprintf(format, args...))
	}
	var faults []error
	if s.Interval < leastTLSInterval {
		faults = append(faults, at("interval", "%v is too short\nhint: it must be %v at least", s.Interval, leastTLSInterval))
	}
	if len(r.Ports) > maxList {
		faults = append(faults, at("ports", "%d elements are more than %d\nhint: ports may be ranges such as 8000-8100", len(r.Ports), maxList))
	}
	if s.ServerName != "" && (probe.CheckHostname(s.ServerName) != nil || strings.Contains(s.ServerName, ":")) {
		faults = append(faults, at("server_name", "%q is not a name\nhint: write the name that clients use, as www.example.org", s.ServerName))
	}
	for _, p := range r.Ports {
		if p.wellKnown {
			s.Ports = append(s.Ports, listenertls.WellKnown()...)
		} else {
			s.Ports = append(s.Ports, p.PortRange)
		}
	}
	return s, errors.Join(faults...)
}

// wellKnown is how listener_tls names the ports that are TLS by custom.
const wellKnown = "well-known"

// tlsPorts is a port, a range of them, or the well-known ones.
type tlsPorts struct {
	portRange
	wellKnown bool
}

func (p *tlsPorts) UnmarshalText(written []byte) error {
	word := string(written)
	if word == wellKnown {
		p.wellKnown = true
		return nil
	}
	if err := p.portRange.UnmarshalText(written); err != nil {
		if yamldoc.Distance(strings.ToLower(word), wellKnown) < 3 {
			return fmt.Errorf("%q is not a port\nhint: did you mean %q?", word, wellKnown)
		}
		return fmt.Errorf("%q is not a port\nhint: write a port from 1 to 65535, a range such as 8000-8100, a list of them, or %s", word, wellKnown)
	}
	return nil
}

func (p tlsPorts) MarshalYAML() (any, error) {
	if p.wellKnown {
		return wellKnown, nil
	}
	return p.portRange.MarshalYAML()
}
