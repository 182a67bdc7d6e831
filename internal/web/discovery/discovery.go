// Package discovery serves what listens here, and what is probed, in the format
// of Prometheus' HTTP service discovery.
package discovery

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// group is one element of what Prometheus' http_sd_config reads.
type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// write answers with groups. Without any the list is [], not null.
func write(w http.ResponseWriter, groups []group) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	text, err := json.Marshal(groups)
	if err != nil {
		http.Error(w, plain.Text(err.Error()), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(append(plain.JSON(text), '\n'))
}

// Probes serves the configured targets, one group each. The address is that of
// the target, so that the relabelling which Prometheus' manual has for
// blackbox_exporter works on it; module, hostname and path are set already. The
// prefix is that of /probe, "/" or "/prefix".
func Probes(plan func() *schedule.Plan, prefix string) http.Handler {
	path := strings.TrimSuffix(prefix, "/") + "/probe"
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		targets := plan().Targets
		groups := make([]group, len(targets))
		for i := range targets {
			groups[i] = probed(&targets[i], path)
		}
		write(w, groups)
	})
}

func probed(t *probe.Target, path string) group {
	labels := map[string]string{}
	for _, l := range t.Labels {
		labels[l.Name] = l.Value
	}
	labels["__metrics_path__"] = path
	labels["__param_module"], labels["__param_target"] = t.Module.Name, t.Address
	if t.Hostname != "" {
		labels["__param_hostname"] = t.Hostname
	}
	if t.Netns != "" {
		labels["__param_netns"], labels["netns"] = t.Netns, t.Netns
	}
	labels["module"], labels["target"], labels["target_name"] = t.Module.Name, t.Address, t.Name
	return group{Targets: []string{t.Address}, Labels: labels}
}

// metaPrefix is what the labels of a listener have in front: Prometheus drops
// them after relabelling.
const metaPrefix = "__meta_port_listener_"

// Listeners serves what listens on this host: a group for each series of
// port_listener_info, which info reads, with its labels behind metaPrefix. A
// listener on every address is at the host that the client asked; one that the
// client cannot reach is left out, and so is one that the query of the request does
// not want. Addresses are those of this host, with their devices. An error is
// returned, so that Prometheus keeps its targets.
func Listeners(info func(context.Context) (*dto.MetricFamily, error), addresses func() (map[netip.Addr]string, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wanted, err := filterOf(r.URL.Query())
		if err != nil {
			http.Error(w, plain.Text(err.Error()), http.StatusBadRequest)
			return
		}
		listeners, err := info(r.Context())
		if err != nil {
			http.Error(w, "cannot read the listeners: "+plain.Text(err.Error()), http.StatusServiceUnavailable)
			return
		}
		own, err := addresses()
		if err != nil {
			own = nil
		}
		host := hostOf(r)
		groups := make([]group, 0, len(listeners.GetMetric()))
		for _, m := range listeners.GetMetric() {
			if !wanted.wants(m) {
				continue
			}
			if g, ok := listening(m, host, own); ok {
				groups = append(groups, g)
			}
		}
		write(w, groups)
	})
}

func listening(m *dto.Metric, asked string, own map[netip.Addr]string) (group, bool) {
	labels := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels[metaPrefix+l.GetName()] = l.GetValue()
	}
	l := listenerOf(labels)
	host, ok := l.host(asked, own)
	return group{Targets: []string{net.JoinHostPort(host, l.port)}, Labels: labels}, ok
}

// hostOf returns how the client calls this host, without the port.
func hostOf(r *http.Request) string {
	u := url.URL{Host: r.Host}
	if name := u.Hostname(); name != "" {
		return name
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return local.IP.String()
	}
	return "localhost"
}
