package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// This file finds what of a module is valid, as in blackbox_exporter, and probably
// not meant.

// minTimeout is how long the report of a host takes that is down on the own
// segment: three requests of ARP, a second apart, and a little.
const minTimeout = 3100 * time.Millisecond

// oddities are what of modules is valid, but probably not meant.
func oddities(list []*module) []string {
	var odd []string
	for _, m := range list {
		if !m.isKnown() {
			odd = append(odd, fmt.Sprintf("%s: prober: there is no prober %q, so the module is left out; hint: %s", m.at(), m.settings.Prober, yamldoc.Suggest(m.settings.Prober, "probers", probe.Kinds())))
		}
	}
	odd = append(odd, misconfigured(list)...)
	for _, m := range list {
		odd = append(odd, m.slips()...)
	}
	hasty := slices.DeleteFunc(slices.Clone(list), func(m *module) bool { return !m.isHasty() })
	if len(hasty) == 0 {
		return odd
	}
	first := hasty[0]
	return append(odd, fmt.Sprintf("%s: timeout: in %v%s a host that is down on the own segment cannot be distinguished from a filter, which takes 3.06 s; hint: %v is the default",
		first.at(), first.settings.Timeout, andOthers(hasty[1:]), probe.DefaultTimeout))
}

// misconfigured are the modules that blackbox_exporter loads, and with which every
// probe fails.
func misconfigured(list []*module) (odd []string) {
	for _, m := range list {
		prober, err := m.prober()
		if p, ok := prober.(interface{ Misconfigured() error }); ok && err == nil && p.Misconfigured() != nil {
			odd = append(odd, fmt.Sprintf("%s: %s: every probe fails: %s", m.at(), m.settings.Prober, strings.ReplaceAll(p.Misconfigured().Error(), "\n", "; ")))
		}
	}
	return odd
}

// isHasty reports whether the module gives a host too little time to be known as
// down.
func (m *module) isHasty() bool {
	t := m.settings.Timeout
	return t > 0 && t < minTimeout && m.settings.Prober != probe.KindUnix
}

// maxNamed is how many modules a warning names.
const maxNamed = 5

// andOthers names the modules of which the same is to be said.
func andOthers(others []*module) string {
	if len(others) == 0 {
		return ""
	}
	var names []string
	for _, m := range others[:min(len(others), maxNamed)] {
		names = append(names, m.name)
	}
	if len(others) > maxNamed {
		names = append(names, "…")
	}
	return fmt.Sprintf(", and in the timeouts below 3.1 s of %d more modules (%s),", len(others), strings.Join(names, ", "))
}

// slips are values in a module that mean something else than it seems, or nothing.
func (m *module) slips() (odd []string) {
	walk(m.node, "", func(mapping *yaml.Node, place string) {
		for key, value := range yamldoc.Pairs(mapping) {
			if text := slipOf(key.Value, value); text != "" {
				odd = append(odd, fmt.Sprintf("%s: %s: %s", m.at(), yamldoc.Join(place, key.Value), text))
			}
		}
		if text := reversed(mapping); text != "" {
			odd = append(odd, fmt.Sprintf("%s: %s: %s", m.at(), yamldoc.Join(place, "min_version"), text))
		}
	})
	later := func(steps []blackbox.Step) bool {
		return slices.ContainsFunc(steps, func(s blackbox.Step) bool { return s.StartTLS })
	}
	tcp, unix := &m.settings.TCP, &m.settings.Unix
	if tcp.TLS && later(tcp.QueryResponse) || unix.TLS && later(unix.QueryResponse) {
		odd = append(odd, fmt.Sprintf("%s: %s.tls: it makes TLS before the first step, and starttls makes it again inside; hint: leave tls out for STARTTLS", m.at(), m.settings.Prober))
	}
	return append(odd, m.unreadSteps()...)
}

// unreadSteps are the keys in steps of websocket that blackbox_exporter takes there and
// does not use.
func (m *module) unreadSteps() (odd []string) {
	for i, step := range m.webSocket.QueryResponse {
		if step.StartTLS || step.ExpectBytes != "" {
			odd = append(odd, fmt.Sprintf("%s: websocket.query_response[%d]: the prober websocket uses neither starttls nor expect_bytes; hint: it uses expect, send and labels", m.at(), i))
		}
	}
	return odd
}

// walk visits the mappings of a node, outer ones first.
func walk(node *yaml.Node, place string, visit func(mapping *yaml.Node, place string)) {
	if node.Kind == yaml.MappingNode {
		visit(node, place)
		for key, value := range yamldoc.Pairs(node) {
			walk(value, yamldoc.Join(place, key.Value), visit)
		}
		return
	}
	for i, item := range node.Content {
		walk(item, fmt.Sprintf("%s[%d]", place, i), visit)
	}
}

// slipOf says what is odd about a value.
func slipOf(key string, value *yaml.Node) string {
	switch {
	case key == "preferred_ip_protocol" && !slices.Contains([]string{"", "ip4", "ip6"}, value.Value):
		return fmt.Sprintf("%q means ip4, as in blackbox_exporter; hint: %s", value.Value, yamldoc.Suggest(value.Value, "versions", []string{"ip4", "ip6"}))
	case key == "valid_http_versions":
		return neverVersion(value)
	case key == "proxy_url" && value.Value != "":
		return oddProxy(value.Value)
	case key == "expect" || key == "regexp" || strings.HasSuffix(key, "_regexp"):
		return repeatedStart(value)
	default:
		return ""
	}
}

// oddProxy says why a proxy cannot be used.
func oddProxy(text string) string {
	if !strings.Contains(text, "://") {
		return "the scheme of the proxy is missing, so every probe fails; hint: put http:// in front, or https://, socks5:// or socks5h://"
	}
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	if err := prober.CheckProxy(u); err != nil {
		return "every probe fails: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

// neverVersion finds versions that no answer has.
func neverVersion(list *yaml.Node) string {
	known := []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"}
	for _, item := range list.Content {
		if !slices.Contains(known, item.Value) {
			return fmt.Sprintf("no answer has the version %q; hint: it is one of %s", item.Value, strings.Join(known, ", "))
		}
	}
	return ""
}

// repeatedStart finds ^+ at the start of an expression, or of one in a list.
func repeatedStart(value *yaml.Node) string {
	for _, item := range append(slices.Clone(value.Content), value) {
		if item.Kind == yaml.ScalarNode && strings.HasPrefix(item.Value, "^+") {
			return "the + behind ^ repeats the ^ and matches no plus sign; hint: write ^[+] for an answer that begins with one"
		}
	}
	return ""
}

// reversed finds a tls_config whose versions leave none.
func reversed(mapping *yaml.Node) string {
	order := []string{"TLS10", "TLS11", "TLS12", "TLS13"}
	_, least := yamldoc.Child(mapping, "min_version")
	_, most := yamldoc.Child(mapping, "max_version")
	if least == nil || most == nil {
		return ""
	}
	if low, high := slices.Index(order, least.Value), slices.Index(order, most.Value); low >= 0 && high >= 0 && low > high {
		return fmt.Sprintf("%s is above max_version %s, so every handshake fails; hint: swap them", least.Value, most.Value)
	}
	return ""
}
