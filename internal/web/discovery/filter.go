package discovery

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// filter has the values that a client wants of each label: one of them.
type filter map[string][]string

// listenerLabels are the labels of port_listener_info.
var listenerLabels = []string{
	"netns", "protocol", "address", "port", "interface", "scope", "dual_stack", "process", "user", "unit", "container", "ephemeral",
}

// filterOf reads the query of a request. What can never match is an error: the
// answer to it would be an empty list, for which Prometheus drops every target.
func filterOf(query url.Values) (filter, error) {
	for name, values := range query {
		if !slices.Contains(listenerLabels, name) {
			return nil, fmt.Errorf("unknown parameter %q\nhint: the parameters are %s", name, strings.Join(listenerLabels, ", "))
		}
		known := closedSet(name)
		for _, value := range values {
			if known != nil && !slices.Contains(known, value) {
				return nil, fmt.Errorf("%s: unknown value %q\nhint: the values are %s; for several, repeat the parameter", name, value, strings.Join(known, ", "))
			}
		}
	}
	return filter(query), nil
}

// closedSet returns all values of a label; nil if there may be any.
func closedSet(label string) (all []string) {
	switch label {
	case "protocol":
		for _, p := range socket.Protocols() {
			all = append(all, p.String())
		}
	case "scope":
		for _, s := range socket.Scopes() {
			all = append(all, s.String())
		}
	case "dual_stack", "ephemeral":
		return []string{"true", "false"}
	}
	return all
}

func valueOf(m *dto.Metric, label string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == label {
			return l.GetValue()
		}
	}
	return ""
}

func (f filter) wants(m *dto.Metric) bool {
	for name, values := range f {
		if !slices.Contains(values, valueOf(m, name)) {
			return false
		}
	}
	return true
}
