package porttest_test

import (
	"net"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

func TestNetworkInNamespace(t *testing.T) {
	n := porttest.NewNetwork(t)
	for _, server := range []string{"198.51.100.2:80", "[2001:db8:2::2]:80"} {
		n.Server.Do(t, func() { porttest.Listen(t, server, 5) })
		c, err := net.DialTimeout("tcp", server, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	n.Router.Do(t, func() { porttest.Filter(t, "forward", "tcp dport 80 drop") })
	for _, server := range []string{"198.51.100.2:80", "[2001:db8:2::2]:80"} {
		if c, err := net.DialTimeout("tcp", server, 200*time.Millisecond); err == nil {
			c.Close()
			t.Errorf("the rule does not keep %s from being reached", server)
		}
	}
}
