package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/port-exporter/port_exporter/internal/socket"
)

func TestDestinationFaults(t *testing.T) {
	var long strings.Builder
	for i := range maxWatch + 1 {
		fmt.Fprintf(&long, "{address: host%d}, ", i)
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"no share", "{min_share: 0}", []string{`line 1: destinations.min_share: "0" is not a share`, "from 0.002 to 1"}},
		{"a share below what is known", "{min_share: 0.001}", []string{`min_share: "0.001"`}},
		{"more than all", "{min_share: 5}", []string{`min_share: "5"`}},
		{"percent", "{min_share: 1%}", []string{`min_share: "1%"`, "0.01 is one in a hundred"}},
		{"no number", "{min_share: NaN}", []string{`min_share: "NaN"`}},
		{"unknown key", "{watch: [{address: 192.0.2.1, port: 5}]}", []string{"destinations.watch[0].port: unknown key", `did you mean "ports"?`}},
		{"no address", "{watch: [{ports: 5}]}", []string{"line 1: destinations.watch[0].address: it is missing"}},
		{"address and port in one", "{watch: [{address: '192.0.2.1:5432'}]}", []string{"destinations.watch[0].address", "ports: 5432"}},
		{"no address at all", "{watch: [{address: 192.0.2.300}]}", []string{"neither an address nor a host name"}},
		{"a name with a space", "{watch: [{address: a b}]}", []string{"neither an address nor a host name"}},
		{"a range of addresses", "{watch: [{address: 10.0.0.0-10.0.0.9}]}", []string{"neither an address nor a host name"}},
		{"an empty label", "{watch: [{address: a..b}]}", []string{"neither an address nor a host name"}},
		{"a long label", "{watch: [{address: " + strings.Repeat("a", 64) + "}]}", []string{"neither an address nor a host name"}},
		{"any", "{watch: [{address: any}]}", []string{"hint: every IPv4 address is 0.0.0.0/0"}},
		{"a zone", "{watch: [{address: 'fe80::1%eth0'}]}", []string{`hint: write "fe80::1"`}},
		{"host bits in a network", "{watch: [{address: 10.0.0.1/8}]}", []string{"hint: write 10.0.0.1, or 10.0.0.0/8"}},
		{"ephemeral", "{watch: [{address: a, ports: ephemeral}]}", []string{`"ephemeral" is not a port of another host`}},
		{"port 0", "{watch: [{address: a, ports: 0}]}", []string{`"0" is not a port of another host`, "from 1 to 65535"}},
		{"too many", "{watch: [" + long.String() + "]}", []string{"line 1: destinations.watch[256]: it is one more than 256"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte("destinations: " + tt.text + "\n"))
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}

func TestDestinations(t *testing.T) {
	text := `
destinations:
  min_share: 0.5
  watch:
    - address: 192.0.2.1
      ports: [5432, 8000-8100]
    - address: "::ffff:10.0.0.0/104"
    - address: db_1.example.com
    - address: db_1.example.com
      ports: 25
`
	c, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := Destinations{MinShare: 0.5, Watched: []WatchedDestination{
		{Network: netip.MustParsePrefix("192.0.2.1/32"), Ports: []socket.PortRange{{First: 5432, Last: 5432}, {First: 8000, Last: 8100}}},
		{Network: netip.MustParsePrefix("10.0.0.0/8")},
		{Host: "db_1.example.com"},
		{Host: "db_1.example.com", Ports: []socket.PortRange{{First: 25, Last: 25}}},
	}}
	if diff := cmp.Diff(want, c.Destinations, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"db_1.example.com"}, c.Destinations.Hosts()); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	written, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(written)
	if err != nil {
		t.Fatalf("%v in\n%s", err, written)
	}
	if diff := cmp.Diff(want, again.Destinations, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("written and read again (-want +got):\n%s", diff)
	}
}
