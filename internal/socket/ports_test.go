package socket

import "testing"

func TestUsable(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ports   EphemeralPorts
		want    int
		in, out []uint16
	}{
		{"nothing", EphemeralPorts{PortRange: PortRange{5, 4}}, 0, nil, []uint16{4, 5}},
		{"all reserved", EphemeralPorts{PortRange{10, 20}, []PortRange{{0, 65535}}}, 0, nil, []uint16{10, 20}},
		{"every port", EphemeralPorts{PortRange: PortRange{0, 65535}}, 65536, []uint16{0, 63, 64, 65535}, nil},
		{"some reserved, some of them outside", EphemeralPorts{PortRange{100, 199}, []PortRange{{90, 109}, {150, 150}, {199, 300}}}, 88, []uint16{110, 149, 151, 198}, []uint16{99, 100, 109, 150, 199, 200}},
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
