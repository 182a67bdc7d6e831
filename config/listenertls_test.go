package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/listenertls"
	"github.com/port-exporter/port_exporter/internal/socket"
)

func TestListenerTLSFaults(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"unknown key", "{port: 443}", []string{"line 1: listener_tls.port: unknown key", `did you mean "ports"?`}},
		{"port 0", "{ports: 0}", []string{`listener_tls.ports: "0" is not a port`, "or well-known"}},
		{"a name", "{ports: https}", []string{`"https" is not a port`, "from 1 to 65535"}},
		{"almost well-known", "{ports: [wellknown]}", []string{`listener_tls.ports[0]: "wellknown" is not a port`, `did you mean "well-known"?`}},
		{"ephemeral", "{ports: ephemeral}", []string{`"ephemeral" is not a port`}},
		{"an empty range", "{ports: 9-8}", []string{`"9-8" is not a port`}},
		{"too often", "{interval: 59s}", []string{"line 1: listener_tls.interval: 59s is too short", "1m"}},
		{"negative", "{interval: -1h}", []string{"is too short"}},
		{"no unit", "{interval: 60}", []string{`"60" is not a duration`}},
		{"no name", "{server_name: 'a b'}", []string{`line 1: listener_tls.server_name: "a b" is not a name`}},
		{"a port in the name", "{server_name: 'www.example.org:443'}", []string{"is not a name"}},
		{"nothing behind it", "{ports: }", []string{"nothing stands behind it"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte("listener_tls: " + tt.text + "\n"))
			if err == nil {
				t.Fatal("it was accepted")
			}
			wantAll(t, "error", err.Error(), tt.want)
		})
	}
}

func TestListenerTLS(t *testing.T) {
	one := func(port uint16) socket.PortRange { return socket.PortRange{First: port, Last: port} }
	for text, want := range map[string]listenertls.Settings{
		"{}":                         {Interval: time.Hour},
		"{ports: []}":                {Interval: time.Hour},
		"{ports: 443}":               {Interval: time.Hour, Ports: []socket.PortRange{one(443)}},
		"{ports: [9443, 8000-8100]}": {Interval: time.Hour, Ports: []socket.PortRange{one(9443), {First: 8000, Last: 8100}}},
		"{ports: well-known}":        {Interval: time.Hour, Ports: listenertls.WellKnown()},
		"{ports: 443, interval: 90s, server_name: www.example.org}": {Interval: 90 * time.Second, Ports: []socket.PortRange{one(443)}, ServerName: "www.example.org"},
	} {
		c, err := Parse([]byte("listener_tls: " + text + "\n"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, c.ListenerTLS); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		written, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse(written); err != nil || cmp.Diff(want, again.ListenerTLS) != "" {
			t.Errorf("%s is written as\n%s\n%v", text, written, err)
		}
	}
}

// TestWellKnownPortsAreInTheReference names each in the file that users read.
func TestWellKnownPortsAreInTheReference(t *testing.T) {
	text := strings.Join(strings.Fields(strings.ReplaceAll(string(reference(t)), "#", "")), " ")
	var written []string
	for _, r := range listenertls.WellKnown() {
		p, err := tlsPorts{portRange: portRange{ports{PortRange: r}}}.MarshalYAML()
		if err != nil {
			t.Fatal(err)
		}
		written = append(written, fmt.Sprint(p))
	}
	last := len(written) - 1
	if want := "well-known: " + strings.Join(written[:last], ", ") + " and " + written[last] + "."; !strings.Contains(text, want) {
		t.Errorf("the reference lacks %q", want)
	}
}
