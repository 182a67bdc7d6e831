package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// rawTarget has the shape of an element of targets.
type rawTarget struct {
	Name     plainText            `yaml:"name,omitempty"`
	Address  plainText            `yaml:"address"`
	Module   plainText            `yaml:"module,omitempty"`
	Hostname plainText            `yaml:"hostname,omitempty"`
	Netns    plainText            `yaml:"netns,omitempty"`
	Interval duration             `yaml:"interval,omitempty"`
	Labels   map[string]plainText `yaml:"labels,omitempty"`

	line  int
	lines keyLines
}

func (t *rawTarget) SetLine(line int) { t.line = line }

func (t *rawTarget) SetKeyLine(key string, line int) { t.lines.set(key, line) }

// at returns where a key of the target stands.
func (t *rawTarget) at(i int, key string) string {
	return fmt.Sprintf("line %d: targets[%d].%s", cmp.Or(t.lines[key], t.line), i, key)
}

// duration is written as 30s.
type duration time.Duration

func (d *duration) UnmarshalText(written []byte) error {
	parsed, err := time.ParseDuration(string(written))
	if err != nil {
		return fmt.Errorf("%q is not a duration\nhint: write a number with its unit, such as 30s or 5m", written)
	}
	*d = duration(parsed)
	return nil
}

// MarshalYAML writes it as it is read: 1h, which Go would write as 1h0m0s.
func (d duration) MarshalYAML() (any, error) {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text, nil
}

// The modules of targets that name none.
const (
	defaultTCP  = "tcp_connect"
	defaultHTTP = "http_2xx"
	defaultUnix = "unix_connect"

	defaultWebSocket = "websocket"
)

// DefaultModule returns the module of a target that names none, by the form of its
// address. It is empty for a bare host, which may be one to ping.
func DefaultModule(address string) string {
	switch {
	case probe.IsURL(address):
		return defaultHTTP
	case probe.IsWebSocket(address):
		return defaultWebSocket
	case probe.IsPath(address):
		return defaultUnix
	case strings.Contains(address, ":"), probe.IsEncodedTwice(address):
		return defaultTCP
	default:
		return ""
	}
}

// target checks a target and makes it.
func (t *rawTarget) target(i int, all map[string]*probe.Module) (probe.Target, error) {
	name := cmp.Or(string(t.Module), DefaultModule(string(t.Address)))
	if t.Address == "" {
		return probe.Target{}, fmt.Errorf("%s: it is missing\nhint: address: example.org:443", t.at(i, "address"))
	}
	if name == "" {
		return probe.Target{}, fmt.Errorf("%s: %q has no port, and there is no module\nhint: %s:443 is probed by tcp; module: icmp pings", t.at(i, "address"), t.Address, t.Address)
	}
	m := all[name]
	if m == nil {
		return probe.Target{}, fmt.Errorf("%s: %w", t.at(i, "module"), noModule(name, all))
	}
	var faults []error
	check := func(key string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", t.at(i, key), err))
		}
	}
	to, err := probe.ParseAddress(m.Kind, string(t.Address))
	if err == nil {
		err = CheckAddress(m.Kind, to)
	}
	check("address", err)
	check("hostname", CheckHostname(m, string(t.Hostname)))
	check("netns", CheckNetns(m, string(t.Netns)))
	check("labels", checkLabels(t.Labels, m))
	if t.Interval != 0 && time.Duration(t.Interval) < time.Second {
		check("interval", fmt.Errorf("%v is too short\nhint: it must be 1s at least", time.Duration(t.Interval)))
	}
	return probe.Target{
		Name: string(t.Name), Address: string(t.Address), Module: m, Hostname: string(t.Hostname),
		Netns: string(t.Netns), Labels: labelsOf(t.Labels), Interval: time.Duration(t.Interval),
	}, errors.Join(faults...)
}

func labelsOf(raw map[string]plainText) []probe.Label {
	var out []probe.Label
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		out = append(out, probe.Label{Name: name, Value: string(raw[name])})
	}
	return out
}

// CheckAddress reports what is wrong with the address of a configured target: it has
// a port as a number, no password, and may be that of one host.
func CheckAddress(kind string, to probe.Address) error {
	switch kind {
	case probe.KindUnix:
		return nil
	case probe.KindHTTP, probe.KindWebSocket:
		if _, secret := to.URL.User.Password(); secret {
			return errors.New("there is a password in it, and the address is a label\nhint: basic_auth in a module keeps it secret")
		}
		if to.Port == "" && !strings.HasSuffix(to.URL.Host, ":") {
			return checkHost(to.Host)
		}
	case probe.KindICMP:
		return checkHost(to.Host)
	case probe.KindDNS:
		if to.Port == "" {
			return checkHost(to.Host)
		}
	}
	return errors.Join(checkPort(to.Port), checkHost(to.Host))
}

func checkPort(port string) error {
	if port == "" {
		return errors.New("the port is missing\nhint: write it behind the colon, from 1 to 65535")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port\nhint: write a port from 1 to 65535", port)
	}
	return nil
}

// checkHost reports what cannot be a host: addresses that no single host has.
func checkHost(host string) error {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return checkName(host)
	}
	addr = addr.Unmap()
	what := ""
	switch {
	case addr.IsLinkLocalUnicast() && addr.Is6() && addr.Zone() == "":
		return fmt.Errorf("%s is link-local, and needs the interface behind it\nhint: as in %s%%eth0", addr, addr)
	case addr.IsUnspecified():
		return fmt.Errorf("%s is every address and none\nhint: this host is 127.0.0.1, or \"::1\"", addr)
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		what = "the broadcast address"
	case addr.IsMulticast():
		what = "a multicast address"
	case addr.Is4() && addr.As4()[0] >= 240:
		what = "of class E, which is reserved (RFC 1112 section 4)"
	default:
		return nil
	}
	return fmt.Errorf("%s is %s\nhint: a probe needs the address of one host", addr, what)
}

// targetName and labelName are compiled once: there may be many targets.
var (
	targetName = regexp.MustCompile(`^[\pL\pN_-]+(\.[\pL\pN_-]+)*\.?$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

func checkName(host string) error {
	if host == "" {
		return errors.New("the host is missing\nhint: write it as host:port; this host is 127.0.0.1")
	}
	if len(host) > 253 || !targetName.MatchString(host) {
		return fmt.Errorf("%q is not a host\nhint: write a name or an address, IPv6 with a port in brackets", host)
	}
	return nil
}

// CheckHostname reports what is wrong with the hostname of a target; an empty one is
// none.
func CheckHostname(m *probe.Module, hostname string) error {
	if hostname == "" {
		return nil
	}
	switch m.Kind {
	case probe.KindHTTP, probe.KindWebSocket, probe.KindTCP, probe.KindUnix, probe.KindGRPC:
	default:
		return fmt.Errorf("the prober %s takes none\nhint: it is the header Host of http and the server name of TLS", m.Kind)
	}
	if probe.CheckHostname(hostname) != nil {
		return fmt.Errorf("%q is not a host\nhint: write a name, with a port from 1 to 65535 if the target is to see one", hostname)
	}
	if b, ok := m.Prober.(interface{ CheckHostname(hostname string) error }); ok {
		if err := b.CheckHostname(hostname); err != nil {
			return fmt.Errorf("%w\nhint: remove one of them", err)
		}
	}
	return nil
}

// CheckNetns reports what is wrong with the network namespace of a target; an empty one is
// our own.
func CheckNetns(m *probe.Module, name string) error {
	switch {
	case name == "":
		return nil
	case m.Kind == probe.KindUnix:
		return errors.New("a unix-domain socket is found by its path, whatever the network namespace\nhint: as /proc/PID/root/run/service.sock, that of a container can be reached")
	case len(name) > probe.MaxNetns || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("this is not the name of a network namespace: it has at most %d bytes, and no control characters", probe.MaxNetns)
	default:
		return nil
	}
}

// isReservedLabel reports whether a label belongs to the metrics of probes, or
// to Prometheus.
func isReservedLabel(name string) bool {
	switch name {
	case "target", "module", "target_name", "netns", // of each target
		"instance", "job", "le", "quantile", // of Prometheus
		"phase", "reason", "outcome", "origin", "scope", "state", "mapping", "filtering", "version", "cipher", "expectation", "finding", "last_hop", "place", // of the metrics
		"fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber", "serving_status":
		return true
	}
	return strings.HasPrefix(name, "__")
}

func checkLabels(labels map[string]plainText, m *probe.Module) error {
	own := expectLabels(m)
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		switch {
		case !labelName.MatchString(name):
			return fmt.Errorf("%q is not the name of a label\nhint: it has letters, digits and _, and does not begin with a digit", name)
		case isReservedLabel(name), slices.Contains(own, name):
			return fmt.Errorf("%q is a label of the metrics of probes, or of Prometheus\nhint: choose another name", name)
		}
	}
	return nil
}

// expectLabels returns the labels that a module takes from what a target says.
func expectLabels(m *probe.Module) []string {
	var steps []prober.Step
	switch p := m.Prober.(type) {
	case *prober.TCP:
		steps = p.Exchange
	case *prober.Unix:
		steps = p.Exchange
	case *prober.WebSocket:
		steps = p.Exchange
	}
	var names []string
	for _, s := range steps {
		for _, l := range s.Labels {
			names = append(names, l.Name)
		}
	}
	return names
}

// checkTwins finds targets whose metrics would be identical.
func checkTwins(raw []rawTarget, targets []probe.Target) error {
	type identity struct{ address, module, hostname, netns string }
	type series struct{ address, module, name, netns, labels string }
	var faults []error
	seen, shown := map[identity]int{}, map[series]int{}
	for i, t := range targets {
		if t.Module == nil {
			continue
		}
		id := identity{t.Address, t.Module.Name, t.Hostname, t.Netns}
		s := series{t.Address, t.Module.Name, t.Name, t.Netns, fmt.Sprint(t.Labels)}
		if first, twice := seen[id]; twice {
			faults = append(faults, fmt.Errorf("%s: this target stands twice\nhint: it is targets[%d] in line %d already", raw[i].at(i, "address"), first, raw[first].line))
		} else if first, twice := shown[s]; twice {
			faults = append(faults, fmt.Errorf("%s: its metrics would be identical to those of targets[%d] in line %d\nhint: give each a name", raw[i].at(i, "address"), first, raw[first].line))
		}
		seen[id], shown[s] = i, i
	}
	return errors.Join(faults...)
}

// usualScrapeTimeout is that of Prometheus by default.
const usualScrapeTimeout = 10 * time.Second

// slowScrape warns when the targets of a scrape take longer than Prometheus
// waits, should none of them answer.
func slowScrape(targets []probe.Target, slots int) []string {
	all, heavy := schedule.Crowds(targets, slots)
	crowd, what := all, "are probed on each scrape"
	if heavy.Silence > all.Silence {
		crowd, what = heavy, "are probed on each scrape by http, grpc or with TLS, which have a quarter of probes.max_in_flight"
	}
	if crowd.Silence <= usualScrapeTimeout {
		return nil
	}
	return []string{fmt.Sprintf("targets: the %d that %s, with timeouts of up to %v and %d in flight, take %.0f s when none of them answers, and Prometheus waits %v; "+
		"hint: interval: 30s probes a target in the background", crowd.Targets, what, crowd.Longest, crowd.Slots, math.Floor(crowd.Silence.Seconds()), usualScrapeTimeout)}
}

// settable returns what a pointer points to.
func settable(pointer any) reflect.Value { return reflect.ValueOf(pointer).Elem() }

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
