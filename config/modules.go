package config

import (
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

//go:embed builtin.yml
var builtinModules []byte

// modules is the section modules: a name for each way to probe. What is in a
// module is read as blackbox_exporter reads it, after our own keys are taken out.
type modules []module

// module is one of them.
type module struct {
	name string
	line int
	// file is where it stands, if that is not the file that was given.
	file string
	// node is what stands in the file, with aliases written out.
	node *yaml.Node
	// settings are those of blackbox_exporter, webSocket is the section that its
	// decoder does not know, and own are ours.
	settings  blackbox.Module
	webSocket blackbox.WebSocket
	own       ownKeys
	files     []namedFile
	reader    *files.Reader // of those files, at each probe
}

// at says where the module stands.
func (m *module) at() string { return fmt.Sprintf("%sline %d: modules.%s", m.origin(), m.line, m.name) }

// origin names the file of the module, if it is not the one that was given.
func (m *module) origin() string {
	if m.file == "" {
		return ""
	}
	return fmt.Sprintf("blackbox_config: %s: ", m.file)
}

// ownKeys are what a module may have besides blackbox_exporter's keys.
type ownKeys struct {
	ExpectOutcome outcome    `yaml:"expect_outcome"`
	Trace         bool       `yaml:"trace"`
	UDP           rawUDP     `yaml:"udp"`
	STUN          rawSTUN    `yaml:"stun"`
	TCP           ownTCPKeys `yaml:"tcp"`
	Unix          ownDialog  `yaml:"unix"`
}

// ownTCPKeys are those in the section tcp.
type ownTCPKeys struct {
	Close         closing   `yaml:"close"`
	SourceAddress sourceIP  `yaml:"source_address"`
	AllIPs        bool      `yaml:"all_ips"`
	QueryResponse []ownStep `yaml:"query_response"`
}

// ownDialog are those in the section unix.
type ownDialog struct {
	QueryResponse []ownStep `yaml:"query_response"`
}

// ownStep are those in a step of query_response.
type ownStep struct {
	SendBytes hexBytes `yaml:"send_bytes"`
}

type rawUDP struct {
	IPProtocol    ipProtocol `yaml:"preferred_ip_protocol"`
	Fallback      *bool      `yaml:"ip_protocol_fallback"`
	SourceAddress sourceIP   `yaml:"source_address"`
	Payload       rawPayload `yaml:"payload"`
	Expect        pattern    `yaml:"expect"`
	ExpectBytes   hexBytes   `yaml:"expect_bytes"`
	AllIPs        bool       `yaml:"all_ips"`

	expect *regexp.Regexp
}

type rawSTUN struct {
	IPProtocol    ipProtocol `yaml:"preferred_ip_protocol"`
	Fallback      *bool      `yaml:"ip_protocol_fallback"`
	SourceAddress sourceIP   `yaml:"source_address"`
}

// Keys of ours that stand beside the section of the prober.
const (
	keyExpectOutcome = "expect_outcome"
	keyTrace         = "trace"
)

func (m *modules) DecodeNode(node *yaml.Node, place string) error {
	if node.ShortTag() == "!!null" {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return yamldoc.Fault(node, place, "%s where a name for each module is expected", yamldoc.Describe(node))
	}
	whole, err := yamldoc.Plain(node)
	if err != nil {
		return yamldoc.Fault(node, place, "%v", err)
	}
	if err := yamldoc.Twice(whole, place); err != nil {
		return err
	}
	var faults []error
	for key, value := range yamldoc.Pairs(whole) {
		one := module{name: key.Value, line: key.Line, node: value}
		if err := one.parse(yamldoc.Join(place, key.Value)); err != nil {
			faults = append(faults, err)
			continue
		}
		yamldoc.WithoutPlaces(value)
		*m = append(*m, one)
	}
	return errors.Join(faults...)
}

// MarshalYAML writes what stands in the file, without its secrets.
func (m modules) MarshalYAML() (any, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	for _, one := range m {
		shown, err := yamldoc.Plain(one.node)
		if err != nil {
			return nil, err
		}
		hide(shown)
		out.Content = append(out.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: one.name}, shown)
	}
	return out, nil
}

// IsZero reports whether there is nothing to write.
func (m modules) IsZero() bool { return len(m) == 0 }

// parse reads the node.
func (m *module) parse(place string) error {
	if m.node.Kind != yaml.MappingNode {
		return yamldoc.Fault(m.node, place, "%s where keys are expected\nhint: the keys are prober, timeout, and one named like the prober", yamldoc.Describe(m.node))
	}
	theirs, err := yamldoc.Plain(m.node)
	if err != nil {
		return err
	}
	m.leaveOutUnknown(theirs)
	_, webSocket := yamldoc.Cut(theirs, probe.KindWebSocket)
	ours := takeOwnKeys(theirs)
	if err := m.checkSections(theirs, ours, place); err != nil {
		return err
	}
	check := checker{place: place, files: &m.files}
	err = errors.Join(check.node(theirs, reflect.TypeFor[blackbox.Module]()), yamldoc.DecodeValue(ours, settable(&m.own), place))
	if err != nil {
		return err
	}
	if err := m.own.UDP.compile(); err != nil {
		_, section := yamldoc.Child(ours, probe.KindUDP)
		_, expect := yamldoc.Child(section, "expect")
		return yamldoc.Fault(expect, yamldoc.Join(place, "udp.expect"), "%v\nhint: %s", err, hintRegexp)
	}
	return errors.Join(m.parseTheirs(theirs, place), m.parseWebSocket(webSocket, check.at(yamldoc.Join(place, probe.KindWebSocket))))
}

// leaveOutUnknown takes the section of a prober that is not there out of a module.
// There is a warning of the module.
func (m *module) leaveOutUnknown(theirs *yaml.Node) {
	_, prober := yamldoc.Child(theirs, "prober")
	if prober != nil && !slices.Contains(probe.Kinds(), prober.Value) {
		yamldoc.Cut(theirs, prober.Value)
	}
}

// parseWebSocket reads the section that blackbox_exporter has after v0.28.0. As with
// its other sections, one beside another prober is read and not used.
func (m *module) parseWebSocket(section *yaml.Node, check checker) error {
	if m.webSocket = blackbox.DefaultWebSocket(); section == nil || section.ShortTag() == "!!null" {
		return nil
	}
	if err := check.node(section, reflect.TypeFor[blackbox.WebSocket]()); err != nil {
		return err
	}
	if err := section.Decode(&m.webSocket); err != nil {
		return m.faultsOf(err, check.place)
	}
	return nil
}

// takeOwnKeys moves our keys out of a module into a mapping of their own.
func takeOwnKeys(module *yaml.Node) *yaml.Node {
	ours := mappingAt(module)
	take(module, ours, keyExpectOutcome, keyTrace, probe.KindUDP, probe.KindSTUN)
	for section, names := range map[string][]string{probe.KindTCP: {"close", "source_address", "all_ips"}, probe.KindUnix: nil} {
		key, theirs := yamldoc.Child(module, section)
		if theirs == nil || theirs.Kind != yaml.MappingNode {
			continue
		}
		own := mappingAt(theirs)
		take(theirs, own, names...)
		takeFromSteps(theirs, own)
		if len(own.Content) > 0 {
			ours.Content = append(ours.Content, key, own)
		}
	}
	return ours
}

// takeFromSteps moves our keys out of the steps of query_response. Each step has
// its place among ours, so that they keep their numbers.
func takeFromSteps(theirs, ours *yaml.Node) {
	key, steps := yamldoc.Child(theirs, "query_response")
	if steps == nil || steps.Kind != yaml.SequenceNode {
		return
	}
	own := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: steps.Line}
	found := false
	for _, step := range steps.Content {
		of := mappingAt(step)
		if step.Kind == yaml.MappingNode {
			take(step, of, yamldoc.KeysOf(reflect.TypeFor[ownStep]())...)
		}
		found = found || len(of.Content) > 0
		own.Content = append(own.Content, of)
	}
	if found {
		ours.Content = append(ours.Content, key, own)
	}
}

// mappingAt returns an empty mapping in the place of a node.
func mappingAt(node *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: node.Line}
}

// take moves keys from one mapping to another.
func take(from, to *yaml.Node, names ...string) {
	for _, name := range names {
		if key, value := yamldoc.Cut(from, name); key != nil {
			to.Content = append(to.Content, key, value)
		}
	}
}

// checkSections finds our keys beside a prober that does not read them.
func (m *module) checkSections(theirs, ours *yaml.Node, place string) error {
	of := ""
	if _, prober := yamldoc.Child(theirs, "prober"); prober != nil {
		of = prober.Value
	}
	for key := range yamldoc.Pairs(ours) {
		at := yamldoc.Join(place, key.Value)
		switch key.Value {
		case of, keyExpectOutcome:
		case keyTrace:
			if of != probe.KindTCP && of != probe.KindUDP {
				return yamldoc.Fault(key, at, "only the probers tcp and udp read this\nhint: remove it")
			}
		default:
			return yamldoc.Fault(key, at, "only the prober %s reads this\nhint: prober: %s", key.Value, key.Value)
		}
	}
	return nil
}

// parseTheirs hands the module to blackbox_exporter's own decoder: once with the
// lines of the file, for its errors, and once with its strictness, for what the
// first lets pass.
func (m *module) parseTheirs(theirs *yaml.Node, place string) error {
	var loose blackbox.Module
	if err := theirs.Decode(&loose); err != nil {
		return m.faultsOf(err, place)
	}
	text, err := yaml.Marshal(theirs)
	if err == nil {
		m.settings, err = blackbox.ParseModule(text)
	}
	return m.faultsOf(err, place)
}

// faultsOf places the faults that a library found; none for nil.
func (m *module) faultsOf(err error, place string) error {
	if err == nil {
		return nil
	}
	var faults []error
	for _, text := range withoutValues(err) {
		line, rest, located := strings.Cut(text, ": ")
		if !located || !strings.HasPrefix(line, "line ") {
			line, rest = fmt.Sprintf("line %d", m.line), text
		}
		faults = append(faults, fmt.Errorf("%s: %s: %s", line, place, rest))
	}
	return errors.Join(faults...)
}

// build makes the module that probes.
func (m *module) build() (*probe.Module, error) {
	prober, err := m.prober()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.at(), err)
	}
	return &probe.Module{
		Name: m.name, Kind: m.settings.Prober, Prober: prober, Timeout: m.settings.Timeout, Expect: m.own.ExpectOutcome.Outcome,
		Credentials: m.holdsCredentials(),
		Trace:       m.own.Trace,
	}, nil
}

func (m *module) prober() (probe.Prober, error) {
	if m.settings.Timeout < 0 {
		return nil, fmt.Errorf("timeout: %v is negative\nhint: leave the key out for %v", m.settings.Timeout, probe.DefaultTimeout)
	}
	switch m.settings.Prober {
	case probe.KindTCP:
		return m.tcp()
	case probe.KindUnix:
		u := m.settings.Unix
		return &prober.Unix{Conversation: m.conversation(u.TLS, u.TLSConfig, u.QueryResponse, m.own.Unix.QueryResponse)}, nil
	case probe.KindGRPC:
		return m.grpc(), nil
	case probe.KindUDP:
		return m.udp(), nil
	case probe.KindSTUN:
		s := m.own.STUN
		return &prober.STUN{Resolution: resolution(s.IPProtocol, s.Fallback), SourceAddress: s.SourceAddress.Addr}, nil
	case probe.KindWebSocket:
		return blackbox.NewWebSocket(m.webSocket, steps(m.webSocket.QueryResponse, nil), m.reader), nil
	case probe.KindDNS:
		return m.embedded("dns.source_ip_address", m.settings.DNS.SourceIPAddress)
	case probe.KindICMP:
		return m.embedded("icmp.source_ip_address", m.settings.ICMP.SourceIPAddress)
	default:
		return m.embedded("", "")
	}
}

// isKnown reports whether there is such a prober. blackbox_exporter loads a
// module with any, and refuses to probe with it.
func (m *module) isKnown() bool { return slices.Contains(probe.Kinds(), m.settings.Prober) }

func (m *module) embedded(key, source string) (probe.Prober, error) {
	if _, err := parseSource(key, source); err != nil {
		return nil, err
	}
	return blackbox.New(m.settings, m.reader)
}

func (m *module) tcp() (probe.Prober, error) {
	s, own := m.settings.TCP, m.own.TCP
	source, err := parseSource("tcp.source_ip_address", s.SourceIPAddress)
	if err != nil {
		return nil, err
	}
	if source.IsValid() && own.SourceAddress.IsValid() {
		return nil, errors.New("tcp.source_address: there is a source_ip_address too\nhint: they mean the same; remove one")
	}
	if !source.IsValid() {
		source = own.SourceAddress.Addr
	}
	return &prober.TCP{
		Resolution:    blackbox.Resolution(s.IPProtocol, s.IPProtocolFallback),
		Conversation:  m.conversation(s.TLS, s.TLSConfig, s.QueryResponse, own.QueryResponse),
		SourceAddress: source,
		CloseReset:    own.Close.reset,
		Breadth:       m.breadth(own.AllIPs),
	}, nil
}

func (m *module) breadth(allIPs bool) prober.Breadth {
	return prober.Breadth{AllIPs: allIPs, ExpectOutcome: m.own.ExpectOutcome.Outcome}
}

func (m *module) conversation(withTLS bool, config blackbox.TLS, theirs []blackbox.Step, own []ownStep) prober.Conversation {
	return prober.Conversation{TLS: withTLS, TLSConfig: blackbox.TLSConfig(config, m.reader), Exchange: steps(theirs, own)}
}

// steps makes steps with blackbox_exporter's keys, and of ours in the same steps if
// there are any.
func steps(theirs []blackbox.Step, own []ownStep) (all []prober.Step) {
	for i, s := range theirs {
		step := prober.Step{Expect: s.Expect.Regexp, Send: s.Send, StartTLS: s.StartTLS}
		if i < len(own) {
			step.SendBytes = own[i].SendBytes
		}
		if s.ExpectBytes != "" {
			step.ExpectBytes = []byte(s.ExpectBytes)
		}
		for _, l := range s.Labels {
			step.Labels = append(step.Labels, probe.Label{Name: l.Name, Value: l.Value})
		}
		all = append(all, step)
	}
	return all
}

func (m *module) grpc() probe.Prober {
	g := m.settings.GRPC
	if _, section := yamldoc.Child(m.node, probe.KindGRPC); section == nil || section.ShortTag() == "!!null" {
		// The manual has true for the default, and so has the section where there is
		// one; a module without has false, and would reach no address of IPv4.
		g.IPProtocolFallback = true
	}
	return &prober.GRPC{
		Resolution: blackbox.Resolution(g.PreferredIPProtocol, g.IPProtocolFallback),
		Service:    g.Service,
		TLS:        g.TLS,
		TLSConfig:  blackbox.TLSConfig(g.TLSConfig, m.reader),
		Metadata:   g.Metadata,
	}
}

func (m *module) udp() probe.Prober {
	u := m.own.UDP
	return &prober.UDP{
		Resolution:    resolution(u.IPProtocol, u.Fallback),
		SourceAddress: u.SourceAddress.Addr,
		Payload:       u.Payload.Payload,
		Expect:        u.expect,
		ExpectBytes:   u.ExpectBytes,
		Breadth:       m.breadth(u.AllIPs),
	}
}

func (u *rawUDP) compile() (err error) {
	if u.Expect != "" {
		u.expect, err = regexp.Compile(string(u.Expect))
	}
	return err
}

func resolution(version ipProtocol, fallback *bool) dial.Resolution {
	return dial.Resolution{Prefer: version.IPProtocol, NoFallback: fallback != nil && !*fallback}
}

func parseSource(key, text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	var s sourceIP
	if err := s.UnmarshalText([]byte(text)); err != nil {
		return netip.Addr{}, fmt.Errorf("%s: %w", key, err)
	}
	return s.Addr, nil
}

// parseModules reads a text that has nothing but modules: the built-in ones.
func parseModules(text []byte) (modules, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	var m modules
	err := m.DecodeNode(doc.Content[0], "modules")
	return m, err
}

// The values of our keys.

type outcome struct{ probe.Outcome }

func (o *outcome) UnmarshalText(written []byte) (err error) {
	o.Outcome, err = oneOf(string(written), "outcomes", probe.Outcomes())
	if err == nil && !o.Tried() {
		return fmt.Errorf("%q says that the target was not tried, which is never a success\nhint: expect what the target should do", written)
	}
	return err
}

type ipProtocol struct{ dial.IPProtocol }

func (p *ipProtocol) UnmarshalText(written []byte) (err error) {
	p.IPProtocol, err = oneOf(string(written), "versions", []dial.IPProtocol{dial.IP4, dial.IP6})
	return err
}

type sourceIP struct{ netip.Addr }

func (s *sourceIP) UnmarshalText(written []byte) (err error) {
	if s.Addr, err = netip.ParseAddr(string(written)); err != nil {
		return fmt.Errorf("%q is not an IP address\nhint: write an address of this host, such as 192.0.2.1", written)
	}
	return nil
}

type closing struct{ reset bool }

func (c *closing) UnmarshalText(written []byte) error {
	switch word := string(written); word {
	case "rst":
		c.reset = true
	case "fin":
	default:
		return fmt.Errorf("%q is not a way to close a connection\nhint: rst leaves no TIME_WAIT; fin is the default", word)
	}
	return nil
}

type rawPayload struct{ payload.Payload }

func (p *rawPayload) UnmarshalText(written []byte) (err error) {
	if p.Payload, err = payload.Parse(string(written)); err != nil {
		return fmt.Errorf("this is no payload\nhint: it is one of %s, or hex:c0ffee or base64:wP/u, of 65507 bytes at most", strings.Join(payload.Names(), ", "))
	}
	return nil
}

// hexBytes are written as hex:c0ffee.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(written []byte) (err error) {
	digits, isHex := strings.CutPrefix(string(written), "hex:")
	if *h, err = hex.DecodeString(strings.Join(strings.Fields(digits), "")); err != nil || !isHex {
		return errors.New("these are no bytes\nhint: write them as hex:c0ffee")
	}
	return nil
}
