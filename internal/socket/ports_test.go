package socket

import "testing"

func TestUsable(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ports   EphemeralPorts
		want    int
		in, out []uint16
	}{
		{"nothing", EphemeralPorts{PortRange: PortRange{First: 5, Last: 4}}, 0, nil, []uint16{4, 5}},
		{"all reserved", EphemeralPorts{PortRange{First: 10, Last: 20}, []PortRange{{First: 0, Last: 65535}}}, 0, nil, []uint16{10, 20}},
		{"every port", EphemeralPorts{PortRange: PortRange{First: 0, Last: 65535}}, 65536, []uint16{0, 63, 64, 65535}, nil},
		{"some reserved, some of them outside", EphemeralPorts{PortRange{First: 100, Last: 199}, []PortRange{{First: 90, Last: 109}, {First: 150, Last: 150}, {First: 199, Last: 300}}}, 88, []uint16{110, 149, 151, 198}, []uint16{99, 100, 109, 150, 199, 200}},
	} {
		set := tt.ports.Usable()
		if set.Len() != tt.want {
			t.Errorf("%s: %d ports, want %d", tt.name, set.Len(), tt.want)
		}
		for _, port := range tt.in {
			if !set.Has(port) {
				t.Errorf("%s: %d is missing", tt.name, port)
			}
		}
		for _, port := range tt.out {
			if set.Has(port) {
				t.Errorf("%s: %d is there", tt.name, port)
			}
		}
	}
}
