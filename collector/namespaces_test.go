package collector

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// storyNamespaces are a pod that is read whole, with more listeners and remote ports than
// have series; a container of which only listeners are read; and one beyond the limit.
type storyNamespaces struct{}

func (storyNamespaces) Missing() []string { return []string{netns.CapSysAdmin} }

func (storyNamespaces) Read(context.Context) (netns.Found, error) {
	ports := func(context.Context) (socket.EphemeralPorts, error) {
		return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
	}
	pod := netns.Identity{Name: "pod2b0c5a1e", Runtime: "containerd", ContainerID: "0123456789abcdef", Pod: "web-0", Namespace: "shop", PodUID: "2b0c5a1e"}
	return netns.Found{
		Engine: "sock_diag",
		Depths: [...]int{netns.Empty: 7, netns.Unread: 1, netns.Listeners: 1, netns.Full: 2},
		Namespaces: []netns.Namespace{
			{Identity: netns.Identity{Name: "docker-0123456789ab", Runtime: "docker"}, Depth: netns.Listeners, EphemeralPorts: ports, Source: porttest.Sockets{
				made(socket.TCP, socket.Listen, "0.0.0.0:80", "", backlog(6, 5, 1)),
				made(socket.TCP, socket.Established, "172.17.0.2:80", "192.0.2.7:5002"), // is not read
			}},
			{Identity: pod, Depth: netns.Full, EphemeralPorts: ports, Source: porttest.Sockets{
				made(socket.TCP, socket.Listen, "[::]:80", ""),
				made(socket.TCP, socket.Listen, "127.0.0.1:9000", ""),
				made(socket.TCP, socket.Listen, "127.0.0.1:9001", ""),
				made(socket.TCP, socket.Established, "10.1.0.7:80", "192.0.2.7:5002"),
				made(socket.TCP, socket.CloseWait, "127.0.0.1:9001", "127.0.0.1:5003"),
				made(socket.TCP, socket.Established, "10.1.0.7:40001", "10.0.0.9:5432"),
				made(socket.TCP, socket.Established, "10.1.0.7:40002", "10.0.0.9:5432"),
				made(socket.TCP, socket.TimeWait, "10.1.0.7:40003", "10.0.0.9:6379"),
				made(socket.TCP, socket.FinWait1, "10.1.0.7:8080", "10.0.0.9:50123"),
			}},
			{Identity: netns.Identity{Name: "web.service", Unit: "web.service"}, Depth: netns.Full, EphemeralPorts: ports, Source: porttest.Sockets{}},
		},
	}, nil
}

// goneNamespaces cannot be found.
type goneNamespaces struct{ storyNamespaces }

func (goneNamespaces) Read(context.Context) (netns.Found, error) {
	return netns.Found{}, errors.New("no /proc")
}

// TestNamespacesFail leaves the other collectors whole.
func TestNamespacesFail(t *testing.T) {
	o := options(stories["namespaces"])
	o.Namespaces = goneNamespaces{}
	got := exposition(t, t.Context(), o, Filter{})
	for _, want := range []string{`port_scrape_collector_success{collector="namespaces"} 0`, `port_scrape_collector_success{collector="sockets"} 1`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(got, "port_namespaces{") {
		t.Error("namespaces that could not be read are counted")
	}
}

// unaskedNamespaces must not be looked at.
type unaskedNamespaces struct{ t *testing.T }

func (n unaskedNamespaces) Missing() []string {
	n.t.Error("privileges for namespaces are asked for")
	return nil
}

func (n unaskedNamespaces) Read(context.Context) (netns.Found, error) {
	n.t.Error("namespaces are read")
	return netns.Found{}, nil
}

// TestNamespacesUnasked scrapes what has nothing of other namespaces: their engine, which
// takes a moment to load, is left alone.
func TestNamespacesUnasked(t *testing.T) {
	o := options(stories["namespaces"])
	o.Namespaces = unaskedNamespaces{t}
	exposition(t, t.Context(), o, Filter{Collectors: []string{"sockets", "limits"}})
}

// TestNamespacesByFamily runs the collector for the families of others that it adds to.
func TestNamespacesByFamily(t *testing.T) {
	o := options(stories["namespaces"])
	o.Namespaces, o.Limits.Namespaces, o.Limits.NamespaceListeners = storyNamespaces{}, 10, 10
	for family, want := range map[string]bool{"port_sockets": true, "port_inbound_connections": true, "port_listener_info": true, "probe_success": false} {
		got := exposition(t, t.Context(), o, Filter{Families: []string{family}})
		if has := strings.Contains(got, `collector="namespaces"`) || strings.Contains(got, "port_netns_info"); has != want {
			t.Errorf("%s: namespaces are read: %t", family, has)
		}
	}
}

// lossySockets lose a part of what is read of some states.
type lossySockets struct {
	source socket.Source
	lost   socket.StateSet
}

func (l lossySockets) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		for s, err := range l.source.Sockets(ctx, want) {
			if !yield(s, err) {
				return
			}
		}
		if want&l.lost != 0 {
			yield(nil, socket.ErrIncomplete)
		}
	}
}

// lossyNamespaces are those of the story: of the first the listeners are not read whole,
// of the second, which are two, the connections.
type lossyNamespaces struct{ storyNamespaces }

func (n lossyNamespaces) Read(ctx context.Context) (netns.Found, error) {
	found, err := n.storyNamespaces.Read(ctx)
	for i, lost := range []socket.StateSet{socket.Listening, socket.Connections} {
		of := &found.Namespaces[i]
		of.Source, of.Count = lossySockets{of.Source, lost}, i+1
	}
	return found, err
}

// TestNamespaceWithTooManySockets costs neither the metrics of the others nor its own
// listeners.
func TestNamespaceWithTooManySockets(t *testing.T) {
	o := options(stories["namespaces"])
	o.Namespaces, o.Limits.Namespaces, o.Limits.NamespaceListeners = lossyNamespaces{}, 10, 10
	got := exposition(t, t.Context(), o, Filter{})
	for text, want := range map[string]bool{
		`port_scrape_collector_success{collector="namespaces"} 1`: true,
		`port_namespaces{read="none"} 2`:                          true,
		`port_namespaces{read="listeners"} 2`:                     true,
		`port_namespaces{read="full"} 0`:                          true,
		`netns="docker-0123456789ab"`:                             false,
		`port_listener_sockets{address="::",interface="",netns="pod2b0c5a1e",port="80",protocol="tcp"} 1`: true,
		`port_inbound_connections{address="::",interface="",netns="pod2b0c5a1e"`:                          false,
		`port_netns_info{container="",container_id="",namespace="",netns="web.service"`:                   true,
	} {
		if strings.Contains(got, text) != want {
			t.Errorf("%s: %t, want %t", text, !want, want)
		}
	}
}

// TestPolicyElsewhere judges the listeners of other network namespaces if a rule names one.
func TestPolicyElsewhere(t *testing.T) {
	with := func(limit int, rules ...policy.Rule) string {
		o := options(stories["namespaces"])
		o.Namespaces, o.NamespaceOwners, o.Policy = storyNamespaces{}, storyOwners, rules
		o.Limits.Namespaces, o.Limits.NamespaceListeners = 10, limit
		return exposition(t, t.Context(), o, Filter{Collectors: []string{"policy"}})
	}
	ports := func(n uint16) []socket.PortRange { return []socket.PortRange{{First: n, Last: n}} }
	nginx := policy.Rule{Name: "nginx", Ports: ports(80), Netns: []string{"docker-*"}, Processes: []string{"nginx"}}
	all := with(10, nginx,
		policy.Rule{Name: "no debugger", Ports: ports(9000), Pods: []string{"shop/web-*"}, Forbid: true},
		policy.Rule{Name: "gone", Ports: ports(25), Pods: []string{"mail"}, Required: true},
		policy.Rule{Name: "ours", Ports: ports(9001), Required: true},
	)
	few := with(1, nginx)
	none := with(10, policy.Rule{Name: "ours", Ports: ports(80)})
	for _, tt := range []struct {
		of, text string
		want     bool
	}{
		{all, `port_policy_unexpected_listener{address="::",container="",interface="",netns="pod2b0c5a1e",port="80",process="nginx",protocol="tcp",scope="any",unit="nginx.service",user="root"} 1`, true},
		{all, `port_policy_unexpected_listeners{netns="pod2b0c5a1e",scope="any"} 1`, true},
		{all, `port_policy_unexpected_listeners{netns="pod2b0c5a1e",scope="loopback"} 2`, true}, // one is forbidden
		{all, `port_policy_unverified_listeners{netns="pod2b0c5a1e",scope="loopback"}`, false},
		{all, `port_policy_forbidden_listener{address="127.0.0.1",interface="",netns="pod2b0c5a1e",port="9000",protocol="tcp",rule="no debugger",severity="critical"} 1`, true},
		{all, `netns="docker-0123456789ab"`, false}, // is expected
		{all, `port_policy_rule_listeners{rule="nginx"} 1`, true},
		{all, `port_policy_missing_listener{rule="gone"}`, false}, // a namespace was not read
		{all, `port_policy_missing_listener{rule="ours"} 1`, true},
		{few, `port_netns_folded_items{metric="port_policy_unexpected_listener",netns="pod2b0c5a1e"} 2`, true},
		{none, `netns="pod2b0c5a1e"`, false},
	} {
		if strings.Contains(tt.of, tt.text) != tt.want {
			t.Errorf("%s: %t\n%s", tt.text, !tt.want, tt.of)
		}
	}
}

// wholeNamespaces are those of the story, of which all are read.
type wholeNamespaces struct{ storyNamespaces }

func (wholeNamespaces) Missing() []string { return nil }

func (n wholeNamespaces) Read(ctx context.Context) (netns.Found, error) {
	found, err := n.storyNamespaces.Read(ctx)
	found.Depths[netns.Unread] = 0
	return found, err
}

// TestRequiredElsewhere is missing only where every other network namespace was read.
func TestRequiredElsewhere(t *testing.T) {
	for name, tt := range map[string]struct {
		read  Namespaces
		limit int
		off   bool
		want  bool
	}{
		"all": {wholeNamespaces{}, 3, false, true}, "one is not read": {storyNamespaces{}, 3, false, false},
		"beyond the limit": {wholeNamespaces{}, 2, false, false}, "none can be read": {goneNamespaces{}, 3, false, false},
		"the collector is off": {wholeNamespaces{}, 3, true, false},
	} {
		o := options(stories["namespaces"])
		o.Namespaces, o.Limits.Namespaces, o.Limits.NamespaceListeners = tt.read, tt.limit, 10
		o.Policy = []policy.Rule{{Name: "gone", Ports: []socket.PortRange{{First: 25, Last: 25}}, Netns: []string{"blue"}, Required: true}}
		if tt.off {
			o.Disabled = append(o.Disabled, "namespaces")
		}
		got := exposition(t, t.Context(), o, Filter{Collectors: []string{"policy"}})
		if missing := strings.Contains(got, `port_policy_missing_listener{rule="gone"} 1`); missing != tt.want {
			t.Errorf("%s: missing %t", name, missing)
		}
		if !strings.Contains(got, `port_scrape_collector_success{collector="policy"} 1`) {
			t.Errorf("%s: the policy fails", name)
		}
	}
}
