package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
)

// neighbours are a pod, a docker container, and one whose name a terminal would act upon.
// Another one could not be entered.
type neighbours struct{}

func (neighbours) Missing() []string { return []string{netns.CapSysAdmin} }

func (neighbours) Read(context.Context) (found netns.Found, err error) {
	found.Depths[netns.Unread] = 1
	for i, id := range []netns.Identity{
		{Name: "docker-0123456789ab", Runtime: "docker", Container: "web"},
		{Name: "evil\x1b[31m", Mounted: []string{"evil\x1b[31m", "second"}},
		{Name: "pod2b0c5a1e", Runtime: "containerd", Pod: "web-0", Namespace: "shop"},
	} {
		found.Namespaces = append(found.Namespaces, netns.Namespace{
			Identity: id, Depth: netns.Full,
			Source: porttest.Sockets{
				porttest.Socket(socket.TCP, socket.Listen, fmt.Sprintf("0.0.0.0:%d", 8080+i), "", cookie(uint64(100+i))),
				porttest.Socket(socket.UDP, socket.Unconnected, "0.0.0.0:41001", "", cookie(uint64(200+i))), // a client
			},
			EphemeralPorts: func(context.Context) (socket.EphemeralPorts, error) {
				return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
			},
		})
	}
	return found, nil
}

func TestListenersOfNamespaces(t *testing.T) {
	const unread = "the process of 1 of the listeners is unknown\n1 network namespaces were not read\nnetwork namespaces may be missing\n"
	for name, tt := range map[string]struct {
		choice       namespaceChoice
		policy       string
		output, said string
		status       int
	}{
		"table_namespaces":        {namespaceChoice{All: true}, "", outputTable, unread, 0},
		"table_namespaces_policy": {namespaceChoice{All: true}, rules, outputTable, unread, 1},
		"json_namespace":          {namespaceChoice{Name: "pod2b0c5a1e"}, rules, outputJSON, "network namespaces may be missing\n", 0},
		"table_namespaces_judged": {namespaceChoice{}, elsewhereRules, outputTable, unread, 1},
		"table_namespace_judged":  {namespaceChoice{Name: "pod2b0c5a1e"}, elsewhereRules, outputTable, "network namespaces may be missing\n", 0},
		"csv_namespace":           {namespaceChoice{Name: "second"}, "", outputCSV, "network namespaces may be missing\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			h, stdout, stderr := host(t, tt.policy)
			h.Namespaces = tt.choice
			h.System.Namespaces = neighbours{}
			known := processes{}
			for i := range uint64(3) {
				app := owner.Process{Owner: socket.Owner{Process: "app", User: "1000", PID: int32(50 + i)}}
				known[100+i], known[200+i] = app, app
			}
			h.System.NamespaceOwners = owner.New(known, slog.New(slog.DiscardHandler))
			err := Listeners(t.Context(), h, ListenersOptions{Output: tt.output})
			if exit, failed := errors.AsType[*ExitError](err); failed != (tt.status != 0) || failed && exit.Code != tt.status {
				t.Errorf("%v, want status %d", err, tt.status)
			}
			porttest.Golden(t, filepath.Join("testdata", name+".txt"), stdout.String())
			if !strings.HasPrefix(stderr.String(), tt.said) || !strings.HasSuffix(stderr.String(), "CAP_SYS_ADMIN\n") {
				t.Errorf("said %q", stderr)
			}
			if strings.Contains(stdout.String(), "\x1b") {
				t.Error("a name reaches the terminal as it is")
			}
		})
	}
}

// elsewhereRules expect a pod and a container, and require what may be in the namespace that
// could not be entered.
const elsewhereRules = `policy:
  rules:
    - {name: shop, pod: shop/web-*, process: app, ports: 8082}
    - {name: site, netns: docker-*, ports: 8080}
    - {name: mail, pod: mail, required: true, ports: 25}
    - {name: this host, netns: ""}
`

// TestRequiredElsewhere is unverified where a network namespace was not read, and where the
// table was saved without them.
func TestRequiredElsewhere(t *testing.T) {
	const required = `policy: {rules: [{name: ours, netns: ""}, {name: mail, pod: mail, ports: 25, required: true}, {name: theirs, netns: "?*"}]}`
	for name, tt := range map[string]struct {
		read   system.Namespaces
		status int
	}{
		"all": {wholeNeighbours{}, 1}, "one not": {neighbours{}, 3}, "none can be": {nil, 3},
	} {
		h, stdout, stderr := host(t, required)
		h.System.Namespaces = tt.read
		h.System.NamespaceOwners = owner.New(processes{}, slog.New(slog.DiscardHandler))
		err := Listeners(t.Context(), h, ListenersOptions{Output: outputJSON})
		exit, _ := errors.AsType[*ExitError](err)
		if exit == nil || exit.Code != tt.status || !strings.Contains(exit.Message, "mail") {
			t.Errorf("%s: %v, said %s", name, err, stderr)
		}
		saved, _, _ := host(t, required)
		saved.System, saved.Stdin = nil, strings.NewReader(stdout.String())
		again := Listeners(t.Context(), saved, ListenersOptions{Output: outputTable, Input: "-"})
		if second, _ := errors.AsType[*ExitError](again); second == nil || second.Code != tt.status {
			t.Errorf("%s, saved: %v", name, again)
		}
	}
}

// wholeNeighbours are the neighbours, all of which can be read.
type wholeNeighbours struct{ neighbours }

func (wholeNeighbours) Missing() []string { return nil }

func (n wholeNeighbours) Read(ctx context.Context) (netns.Found, error) {
	found, err := n.neighbours.Read(ctx)
	found.Depths[netns.Unread] = 0
	return found, err
}

// TestBaselineElsewhere expects the listeners of others if it is asked to.
func TestBaselineElsewhere(t *testing.T) {
	for all, want := range map[bool]bool{false: false, true: true} {
		h, stdout, _ := host(t, "")
		h.System.Namespaces, h.Namespaces.All = wholeNeighbours{}, all
		h.System.NamespaceOwners = owner.New(processes{}, slog.New(slog.DiscardHandler))
		if err := Baseline(t.Context(), h, BaselineOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(stdout.String(), "pod: shop/web-*"); got != want {
			t.Errorf("--all-namespaces=%t: %s", all, stdout)
		}
	}
}

// TestNamespaceFlags has combinations that make no sense, and a source without namespaces.
func TestNamespaceFlags(t *testing.T) {
	one, all := namespaceChoice{Name: "blue"}, namespaceChoice{All: true}
	for name, tt := range map[string]struct {
		choice namespaceChoice
		o      ListenersOptions
		want   string
	}{
		"both":            {namespaceChoice{true, "blue"}, ListenersOptions{}, "--all-namespaces: must not be combined with --netns"},
		"a saved table":   {one, ListenersOptions{Input: "-"}, "--netns: must not be combined with --input"},
		"verdicts":        {all, ListenersOptions{Unexpected: true}, "--all-namespaces: must not be combined with --unexpected"},
		"verdicts for CI": {one, ListenersOptions{Output: outputSARIF}, "--netns: must not be combined with --output=sarif"},
		"no such source":  {all, ListenersOptions{}, "other network namespaces cannot be read with the source"},
	} {
		h, stdout, _ := host(t, rules)
		h.Namespaces = tt.choice
		if err := Listeners(t.Context(), h, tt.o); err == nil || !strings.HasPrefix(err.Error(), tt.want) || stdout.Len() > 0 {
			t.Errorf("%s: %v, wrote %q", name, err, stdout)
		}
	}
}
