package socket

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConflicts(t *testing.T) {
	nginx := Owner{Process: "nginx", Unit: "nginx.service"}
	apache := Owner{Process: "apache2", Unit: "apache2.service"}
	worker := Owner{Process: "worker", Unit: "nginx.service"}
	python, node := Owner{Process: "python3", Unit: "session-3.scope"}, Owner{Process: "node", Unit: "session-3.scope"}
	type held struct {
		socket Socket
		owner  Owner
	}
	for _, tt := range []struct {
		name string
		held []held
		want bool
	}{
		{"the same service twice", []held{{tcp(Listen, "127.0.0.1:80", ""), nginx}, {tcp(Listen, "0.0.0.0:80", ""), nginx}}, false},
		{"two programs of one unit", []held{{tcp(Listen, "127.0.0.1:80", ""), nginx}, {tcp(Listen, "0.0.0.0:80", ""), worker}}, false},
		{"an owner that is not known", []held{{tcp(Listen, "127.0.0.1:80", ""), nginx}, {tcp(Listen, "0.0.0.0:80", ""), Owner{User: "root"}}}, false},
		{"different ports", []held{{tcp(Listen, "127.0.0.1:80", ""), nginx}, {tcp(Listen, "0.0.0.0:81", ""), apache}}, false},
		{"different protocols", []held{{tcp(Listen, "0.0.0.0:53", ""), nginx}, {udp(Unconnected, "0.0.0.0:53"), apache}}, false},
		{"different addresses", []held{{tcp(Listen, "127.0.0.1:80", ""), nginx}, {tcp(Listen, "10.0.0.1:80", ""), apache}}, false},
		{"different interfaces", []held{{tcp(Listen, "0.0.0.0:80", "", on("eth0")), nginx}, {tcp(Listen, "0.0.0.0:80", "", on("eth1")), apache}}, false},
		{"IPv4 beside V6ONLY", []held{{tcp(Listen, "0.0.0.0:80", ""), nginx}, {tcp(Listen, "[::]:80", "", v6only), apache}}, false},
		{"an IPv4 address beside V6ONLY", []held{{tcp(Listen, "10.0.0.1:80", ""), nginx}, {tcp(Listen, "[::]:80", "", v6only), apache}}, false},
		{"multicast DNS of two programs", []held{{udp(Unconnected, "0.0.0.0:5353"), nginx}, {udp(Unconnected, "0.0.0.0:5353"), apache}}, false},
		{"a multicast address beside the wildcard", []held{{udp(Unconnected, "239.1.2.3:7000"), nginx}, {udp(Unconnected, "0.0.0.0:7000"), apache}}, false},

		{"one UDP address", []held{{udp(Unconnected, "0.0.0.0:8125"), nginx}, {udp(Unconnected, "0.0.0.0:8125"), apache}}, true},
		{"TCP on the port of multicast DNS", []held{{tcp(Listen, "0.0.0.0:5353", ""), nginx}, {tcp(Listen, "0.0.0.0:5353", ""), apache}}, true},
		{"loopback beside the wildcard", []held{{tcp(Listen, "127.0.0.1:8080", ""), nginx}, {tcp(Listen, "0.0.0.0:8080", ""), apache}}, true},
		{"one group", []held{{tcp(Listen, "0.0.0.0:80", ""), nginx}, {tcp(Listen, "0.0.0.0:80", ""), apache}}, true},
		{"IPv4 beside dual stack", []held{{tcp(Listen, "10.0.0.1:80", ""), nginx}, {tcp(Listen, "[::]:80", ""), apache}}, true},
		{"both wildcards, dual stack", []held{{tcp(Listen, "0.0.0.0:80", ""), nginx}, {tcp(Listen, "[::]:80", ""), apache}}, true},
		{"IPv6 beside V6ONLY", []held{{tcp(Listen, "[::1]:80", ""), nginx}, {tcp(Listen, "[::]:80", "", v6only), apache}}, true},
		{"one on a device", []held{{tcp(Listen, "0.0.0.0:80", "", on("eth0")), nginx}, {tcp(Listen, "0.0.0.0:80", ""), apache}}, true},
		{"a program of the same name and another user", []held{{udp(Unconnected, "0.0.0.0:53"), Owner{Process: "dnsd", User: "root"}}, {udp(Unconnected, "127.0.0.1:53"), Owner{Process: "dnsd", User: "nobody"}}}, true},
		{"two programs of one log-in", []held{{tcp(Listen, "127.0.0.1:80", ""), python}, {tcp(Listen, "0.0.0.0:80", ""), node}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var owned []Owned
			for _, h := range tt.held {
				owned = append(owned, Owned{Listener: mustRead(t, host, h.socket).Listeners[0], Owner: h.owner})
			}
			var want []Conflict
			if tt.want {
				want = []Conflict{{"", owned[0].Protocol, owned[0].Port}}
			}
			if diff := cmp.Diff(want, Conflicts(owned)); diff != "" {
				t.Errorf("conflicts (-want +got):\n%s", diff)
			}
		})
	}
}
