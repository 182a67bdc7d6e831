package check

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// document is a report as JSON: docs/schemas/check.json. What is unknown is left out.
type document struct {
	Target     string        `json:"target"`
	Module     string        `json:"module"`
	Netns      string        `json:"netns,omitempty"`
	Success    *bool         `json:"success"` // null if it was not tried
	Verdict    string        `json:"verdict"`
	Place      string        `json:"place"`
	Sentence   string        `json:"sentence"`
	Next       string        `json:"next,omitempty"`
	Outcome    string        `json:"outcome"`
	Phase      string        `json:"phase,omitempty"`
	Origin     string        `json:"origin"`
	Offender   string        `json:"offender,omitempty"`
	Address    string        `json:"address,omitempty"`
	Redirect   string        `json:"redirect,omitempty"`
	Proxy      string        `json:"proxy,omitempty"`
	Error      string        `json:"error,omitempty"`
	Seconds    float64       `json:"duration_seconds"`
	Evidence   []evidence    `json:"evidence"`
	Lookups    []lookup      `json:"lookups,omitempty"`
	Attempts   []attempt     `json:"addresses,omitempty"`
	Connection []connection  `json:"connections,omitempty"`
	TLS        []handshake   `json:"tls,omitempty"`
	Route      *routeTo      `json:"route,omitempty"`
	Listener   *listener     `json:"listener,omitempty"`
	Ports      *ephemeralUse `json:"ephemeral_ports,omitempty"`
	Path       *pathTo       `json:"path,omitempty"`
}

type evidence struct {
	Mark  string `json:"mark"`
	Topic string `json:"topic"`
	Text  string `json:"text"`
}

type lookup struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Seconds   float64      `json:"duration_seconds"`
	Answers   []nameAnswer `json:"answers,omitempty"`
	Error     string       `json:"error,omitempty"`
}

type nameAnswer struct {
	Server    string       `json:"server"`
	Name      string       `json:"name"`
	Type      string       `json:"type"`
	Code      string       `json:"code,omitempty"`
	Aliases   []string     `json:"aliases,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Seconds   float64      `json:"duration_seconds"`
}

type attempt struct {
	Address string  `json:"address"`
	Outcome string  `json:"outcome"`
	Origin  string  `json:"origin"`
	Probed  bool    `json:"probed"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"duration_seconds"`
}

type connection struct {
	From        string  `json:"from,omitempty"`
	To          string  `json:"to"`
	Seconds     float64 `json:"duration_seconds"`
	Retransmits int     `json:"syn_retransmits"`
	RoundTrip   float64 `json:"rtt_seconds,omitempty"`
	MSS         int     `json:"mss,omitempty"`
	Error       string  `json:"error,omitempty"`
}

type handshake struct {
	ServerName   string      `json:"server_name"`
	Version      string      `json:"version,omitempty"`
	Cipher       string      `json:"cipher,omitempty"`
	Protocol     string      `json:"alpn,omitempty"`
	AskedForOurs bool        `json:"client_certificate_requested"`
	Chain        []chainPart `json:"chain,omitempty"`
	Seconds      float64     `json:"duration_seconds"`
	Error        string      `json:"error,omitempty"`
}

type chainPart struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names,omitempty"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

type routeTo struct {
	Type      string `json:"type"` // empty if there is no route
	Gateway   string `json:"gateway,omitempty"`
	Device    string `json:"device,omitempty"`
	Source    string `json:"source,omitempty"`
	MTU       int    `json:"mtu,omitempty"`
	Table     int    `json:"table,omitempty"`
	By        string `json:"by,omitempty"`
	Neighbour string `json:"neighbour,omitempty"`
}

type listener struct {
	State    string   `json:"state"`
	Protocol string   `json:"protocol"`
	Address  string   `json:"address,omitempty"`
	Scope    string   `json:"scope,omitempty"`
	Queue    *uint32  `json:"accept_queue,omitempty"`
	Limit    *uint32  `json:"accept_queue_limit,omitempty"`
	Owners   []holder `json:"owners,omitempty"`
}

type holder struct {
	Process   string `json:"process,omitempty"`
	PID       int32  `json:"pid,omitempty"`
	User      string `json:"user,omitempty"`
	Unit      string `json:"unit,omitempty"`
	Container string `json:"container,omitempty"`
}

type ephemeralUse struct {
	Used  int    `json:"used"`
	Of    int    `json:"of"`
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
	By    string `json:"process,omitempty"`
}

// JSON returns the report on one line.
func (r *Report) JSON() ([]byte, error) {
	d := document{
		Target: plain.Line(r.Target.Redacted()), Module: moduleName(r.Target.Module), Netns: plain.Line(r.Target.Netns),
		Verdict: r.Verdict.Code.String(), Place: r.Verdict.Place.String(), Sentence: plain.Line(r.Verdict.Sentence), Next: plain.Line(r.nextStep()),
		Outcome: r.Result.Outcome.String(), Phase: r.Result.Phase.String(), Origin: r.Result.Origin.String(),
		Address: addrPort(r.Result.Peer), Redirect: plain.Line(r.Result.Redirect), Proxy: plain.Line(r.Result.Proxy), Error: plain.Line(r.Error()),
		Seconds: r.Result.Duration.Seconds(), Evidence: []evidence{},
		Lookups: r.jsonLookups(), Attempts: r.jsonAttempts(), Connection: r.jsonConnections(), TLS: r.jsonHandshakes(),
		Route: r.jsonRoute(), Listener: r.jsonListener(), Path: r.jsonPath(),
	}
	if r.Known {
		d.Success = &r.Success
	}
	if by := r.Result.ICMP.Offender; by.IsValid() {
		d.Offender = by.String()
	}
	for _, e := range r.Evidence() {
		d.Evidence = append(d.Evidence, evidence{e.Mark.String(), e.Topic, plain.Line(e.Text)})
	}
	if p := r.Ports; p != nil {
		d.Ports = &ephemeralUse{p.Used, p.Of, p.First, p.Last, plain.Line(p.By)}
	}
	return json.Marshal(d)
}

func addrPort(a netip.AddrPort) string {
	switch {
	case !a.IsValid():
		return ""
	case a.Port() == 0:
		return a.Addr().String()
	default:
		return a.String()
	}
}

func (r *Report) message(err error) string {
	if err == nil {
		return ""
	}
	return plain.Line(probe.Redact(err.Error(), r.Target.Address))
}

func (r *Report) jsonLookups() (all []lookup) {
	for _, l := range r.Lookups {
		j := lookup{Name: plain.Line(l.Host), Addresses: l.Addresses, Seconds: l.Duration.Seconds(), Error: r.message(l.Err)}
		if j.Addresses == nil {
			j.Addresses = []netip.Addr{}
		}
		for _, a := range l.Answers {
			for i := range a.Aliases {
				a.Aliases[i] = plain.Line(a.Aliases[i])
			}
			j.Answers = append(j.Answers, nameAnswer{a.Server, plain.Line(a.Name), a.Type, a.Code, a.Aliases, a.Addresses, a.Duration.Seconds()})
		}
		all = append(all, j)
	}
	return all
}

func (r *Report) jsonAttempts() (all []attempt) {
	for _, a := range r.Attempts {
		all = append(all, attempt{addrPort(a.Address), a.Result.Outcome.String(), a.Result.Origin.String(), a.Probed, r.message(a.Result.Err), a.Result.Duration.Seconds()})
	}
	return all
}

func (r *Report) jsonConnections() (all []connection) {
	for _, c := range r.Connections {
		all = append(all, connection{addrPort(c.From), addrPort(c.To), c.Duration.Seconds(), c.Retransmits, c.RoundTrip.Seconds(), c.MSS, r.message(c.Err)})
	}
	return all
}

func (r *Report) jsonHandshakes() (all []handshake) {
	for _, h := range r.Handshakes {
		j := handshake{ServerName: plain.Line(h.ServerName), Protocol: plain.Line(h.Protocol), AskedForOurs: h.AskedForOurs, Seconds: h.Duration.Seconds(), Error: r.message(h.Err)}
		if h.Version != 0 {
			j.Version, j.Cipher = tls.VersionName(h.Version), tls.CipherSuiteName(h.Cipher)
		}
		for _, c := range h.Certificates {
			j.Chain = append(j.Chain, jsonCertificate(c))
		}
		all = append(all, j)
	}
	return all
}

func jsonCertificate(c *x509.Certificate) chainPart {
	p := chainPart{Subject: plain.Line(c.Subject.String()), Issuer: plain.Line(c.Issuer.String()), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC()}
	for _, name := range c.DNSNames {
		p.Names = append(p.Names, plain.Line(name))
	}
	for _, ip := range c.IPAddresses {
		p.Names = append(p.Names, ip.String())
	}
	return p
}

func (r *Report) jsonRoute() *routeTo {
	if r.Route == nil {
		return nil
	}
	j := &routeTo{Type: r.Route.Type, Device: r.Route.Device, MTU: r.Route.MTU, Table: r.Route.Table, By: r.Route.By, Neighbour: r.Route.Neighbour}
	if r.Route.Gateway.IsValid() {
		j.Gateway = r.Route.Gateway.String()
	}
	if r.Route.Source.IsValid() {
		j.Source = r.Route.Source.String()
	}
	return j
}

func (r *Report) jsonListener() *listener {
	l := r.Listener
	if l == nil {
		return nil
	}
	j := &listener{State: l.Standing.String(), Protocol: l.Protocol.String(), Scope: l.Scope()}
	if l.Listener == nil {
		return j
	}
	j.Address = netip.AddrPortFrom(l.Listener.Address, l.Listener.Port).String()
	if l.Protocol == socket.TCP && l.Listener.Known.Has(socket.KnowsQueues|socket.KnowsAcceptQueueLimit) {
		j.Queue, j.Limit = &l.Listener.Worst.Length, &l.Listener.Worst.Limit
	}
	for _, o := range l.Owners {
		if h := (holder{plain.Line(o.Process), o.PID, plain.Line(o.User), plain.Line(o.Unit), plain.Line(o.Container)}); h != (holder{}) {
			j.Owners = append(j.Owners, h)
		}
	}
	return j
}
