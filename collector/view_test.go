package collector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

func view(t *testing.T, o Options) *View {
	t.Helper()
	v, err := New(o).View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestViewIsWhatIsExported compares the verdicts of the view of each story with the
// metrics of the same host.
func TestViewIsWhatIsExported(t *testing.T) {
	for name, story := range stories {
		o := options(story)
		o.Owners, o.Policy, o.Portless, o.PortlessOwners = storyOwners, storyPolicy, storyPortless, storyOwners
		got := exposition(t, t.Context(), o, Filter{})
		v := view(t, o)
		if v.ListenersErr != nil || v.TrafficErr != nil || v.PortsErr != nil || v.KernelErr != nil {
			t.Fatalf("%s: %+v", name, v)
		}
		counts := map[string]int{}
		for _, l := range v.Listeners.Seen {
			switch {
			case l.IsPortless():
			case l.Verdict.Broken():
				counts[fmt.Sprintf("port_policy_unexpected_listeners{netns=\"\",scope=%q}", l.Scope)]++
			case l.Verdict.Kind == policy.Undecided:
				counts[fmt.Sprintf("port_policy_undecided_listeners{netns=\"\",scope=%q}", l.Scope)]++
			}
			if l.FirstSeen.IsZero() != l.IsPortless() {
				t.Errorf("%s: %v was first seen at %v", name, l.ListenerID, l.FirstSeen)
			}
		}
		for _, scope := range socket.Scopes() {
			for _, family := range []string{"unexpected", "undecided"} {
				series := fmt.Sprintf("port_policy_%s_listeners{netns=\"\",scope=%q}", family, scope)
				if want := fmt.Sprintf("%s %d\n", series, counts[series]); !strings.Contains(got, want) {
					t.Errorf("%s: the view has %s, and the metrics not:\n%s", name, want, got)
				}
			}
		}
		for i, r := range storyPolicy {
			missing := strings.Contains(got, fmt.Sprintf("port_policy_missing_listener{rule=%q} 1\n", r.Name))
			if has := strings.Contains(fmt.Sprint(v.Listeners.Missing), fmt.Sprint(i)); has != missing {
				t.Errorf("%s: rule %s is missing: %t on the view, %t in the metrics", name, r.Name, has, missing)
			}
		}
		if len(v.Traffic.Inbound) != len(v.Listeners.Table.Listeners) {
			t.Errorf("%s: %d flows of %d listeners", name, len(v.Traffic.Inbound), len(v.Listeners.Table.Listeners))
		}
	}
}

// TestViewInParts has parts that cannot be read, which leave the others whole.
func TestViewInParts(t *testing.T) {
	tired := errors.New("netlink is tired")
	disabled := func(names ...string) func(*Options) { return func(o *Options) { o.Disabled = names } }
	for _, tt := range []struct {
		name                         string
		change                       func(*Options)
		listeners, traffic, limits   bool
		policy                       bool
		listenersErr, err, kernelErr string
	}{
		{"all of it", func(*Options) {}, true, true, true, true, "", "", ""},
		{"no policy", func(o *Options) { o.Policy = nil }, true, true, true, false, "", "", ""},
		{"its verdicts are disabled", disabled("policy"), true, true, true, false, "", "", ""},
		{"connections cannot be read", func(o *Options) {
			o.Source = &broken{stories["web_server"], socket.Connections, []error{tired, tired}}
		}, true, false, true, true, "", tired.Error(), ""},
		{"what reads connections is disabled", disabled("connections", "sockets", "ephemeral"), true, false, true, true, "", "the collector connections is disabled", ""},
		{"one that reads them is not", disabled("connections", "sockets"), true, true, true, true, "", "", ""},
		{"listeners are disabled", disabled("listeners", "limits"), false, true, false, false, "the collector listeners is disabled", "", "the collector limits is disabled"},
		{"no limits", func(o *Options) { o.KernelStats = nil }, true, true, false, true, "", "", errNoKernelStats.Error()},
		{"a file of the limits", func(o *Options) {
			o.KernelStats = func() (*kernel.Stats, error) {
				return kernelStats(), &kernel.FileError{File: "net/snmp", Err: fs.ErrPermission}
			}
		}, true, true, true, true, "", "", "net/snmp"},
		{"a panic", func(o *Options) { o.Owners = nil }, false, true, true, false, "panic", "", ""},
	} {
		o := options(stories["web_server"])
		o.Owners, o.Policy = storyOwners, storyPolicy
		tt.change(&o)
		v := view(t, o)
		if (v.Listeners != nil) != tt.listeners || (v.Traffic != nil) != tt.traffic || (v.Kernel != nil) != tt.limits {
			t.Errorf("%s: %+v", tt.name, v)
		}
		if tt.listeners && v.Listeners.HasPolicy != tt.policy {
			t.Errorf("%s: verdicts: %t", tt.name, v.Listeners.HasPolicy)
		}
		for want, got := range map[string]error{"listeners:" + tt.listenersErr: v.ListenersErr, "connections:" + tt.err: v.TrafficErr, "limits:" + tt.kernelErr: v.KernelErr} {
			part, want, _ := strings.Cut(want, ":")
			if text := fmt.Sprint(got); want != "" && !strings.Contains(text, want) || want == "" && got != nil {
				t.Errorf("%s: the error of the %s is %v, want %q", tt.name, part, got, want)
			}
		}
		porttest.Await(t, "the end of every part of: "+tt.name, func() bool { return o.Memory.running.Load() == 0 })
	}
}

// TestViewEnds has a source that does not answer: the view ends with its context, what
// was left behind takes room, and without room there is none.
func TestViewEnds(t *testing.T) {
	source := stuck{make(chan struct{})}
	o := options(source)
	o.MaxScrapes = 1
	e := New(o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	v, err := e.View(ctx)
	if err != nil || !errors.Is(v.ListenersErr, context.DeadlineExceeded) || !errors.Is(v.TrafficErr, context.DeadlineExceeded) || v.Listeners != nil || v.Traffic != nil {
		t.Fatalf("%+v, %v", v, err)
	}
	for range 100 {
		if _, err = e.View(ctx); err != nil {
			break
		}
	}
	if _, busy := errors.AsType[*BusyError](err); !busy {
		t.Errorf("no room: %v", err)
	}
	close(source.release)
	porttest.Await(t, "room", func() bool { _, err := e.View(t.Context()); return err == nil })
}

// TestViewOfAClient has a client on many ports: it is one, with its owner and verdict.
func TestViewOfAClient(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	o := options(porttest.Sockets(ephemeralUDP("0.0.0.0", 50000, 9)))
	o.Memory = NewMemory(func() time.Time { return now })
	who := owners{}
	for port := range uint16(9) {
		who[50000+port] = []socket.Owner{{Process: "vpn"}}
	}
	o.Owners, o.Policy = who, storyPolicy
	view(t, o)
	now = now.Add(2 * longLivedAge)
	seen := view(t, o).Listeners.Seen
	if len(seen) != 1 || seen[0].Port != 0 || seen[0].Sockets != 9 || seen[0].Verdict.Kind != policy.Undecided || len(seen[0].Owners) != 1 || seen[0].Owners[0].Process != "vpn" {
		t.Errorf("%+v", seen)
	}
}
