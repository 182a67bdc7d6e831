package prober

import (
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// maxAddressesAtOnce bounds the connections of one probe.
const maxAddressesAtOnce = 16

// Breadth is how many of the addresses that a name has are probed. Its zero value
// probes the first.
type Breadth struct {
	// AllIPs probes every address; see [worstOf].
	AllIPs bool
	// ExpectOutcome is what AllIPs is content with: [probe.Module.Expect].
	ExpectOutcome probe.Outcome
}

// probe returns the result of the address that counts, of which there is at least
// one. With all of them it has their number, and that of those that were open.
func (b Breadth) probe(addrs []netip.AddrPort, found probe.Samples, number, numberOpen *probe.Metric, try func(netip.AddrPort, probe.Samples) probe.Result) probe.Result {
	if !b.AllIPs {
		result := try(addrs[0], found)
		dial.NameOther(&result, addrs)
		return result
	}
	worst, open := worstOf(addrs, b.ExpectOutcome, func(addr netip.AddrPort) probe.Result { return try(addr, towards(found, addr)) })
	all := probe.Samples(worst.Samples)
	all.Set(number, float64(len(addrs)))
	all.Set(numberOpen, float64(open))
	worst.Samples = all
	return worst
}

// worstOf probes all addresses of a name side by side, each for as long as there
// is. It returns the worst result, and how many addresses were open: one that is
// open and must not be is worse than others that are not as expected, those are
// worse than one that was not tried, and of equals the first counts. There is at
// least one address.
func worstOf(addrs []netip.AddrPort, expected probe.Outcome, try func(netip.AddrPort) probe.Result) (worst probe.Result, open int) {
	results := make([]probe.Result, len(addrs))
	slots := make(chan struct{}, maxAddressesAtOnce)
	var probes probe.Crew
	for i, addr := range addrs {
		slots <- struct{}{}
		probes.Go(func() {
			defer func() { <-slots }()
			results[i] = try(addr)
		})
	}
	probes.Wait()

	worst = results[0]
	for _, result := range results {
		if result.Outcome == probe.Open {
			open++
		}
		if badness(result.Outcome, expected) > badness(worst.Outcome, expected) {
			worst = result
		}
	}
	return worst, open
}

// badness ranks the outcomes of the addresses. Whoever watches ports that must be
// closed is to hear of an open one, whatever else there is.
func badness(o, expected probe.Outcome) int {
	switch {
	case o == expected:
		return 0
	case !o.Tried():
		return 1
	case o == probe.Open:
		return 3
	default:
		return 2
	}
}

// towards returns a copy of what was found before the addresses went separate
// ways, for one of them.
func towards(found probe.Samples, addr netip.AddrPort) probe.Samples {
	mine := append(probe.NewSamples(), found...)
	mine.Address(addr.Addr())
	return mine
}
