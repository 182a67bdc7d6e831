package daemon

import (
	"net/netip"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/names"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// watched returns a function that returns the watched destinations of a configuration, with
// the addresses that their host names have. It begins to look them up immediately.
func watched(d config.Destinations, book *names.Book) func() collector.Watched {
	hosts := d.Hosts()
	book.Answers(hosts)
	return func() collector.Watched {
		answers := book.Answers(hosts)
		w := collector.Watched{Lookups: map[string]bool{}}
		var found []socket.Watched // behind the others: how many there are is the name server's choice
		for _, watched := range d.Watched {
			if watched.Host == "" {
				w.Destinations = append(w.Destinations, socket.Watched{Network: watched.Network, Ports: watched.Ports})
			}
			for _, address := range answers[watched.Host].Addresses {
				one := netip.PrefixFrom(address, address.BitLen())
				found = append(found, socket.Watched{Network: one, Ports: watched.Ports})
			}
		}
		w.Destinations = append(w.Destinations, found...)
		for host, answer := range answers {
			w.Lookups[host] = answer.Err == nil
		}
		return w
	}
}
