// Package health adds up what the kernel knows of the paths of open TCP connections, by
// listener and by remote port.
package health

import (
	"time"

	"github.com/port-exporter/port_exporter/internal/closed"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// This file holds the inner loop of the collector health: Observe runs once for each
// connection of the host. It must not allocate but for a service that has counters of
// its own.

// Service is what the open connections of one service add up to. All but the first and
// Unsent are of their whole lives.
type Service struct {
	RoundTrip, MinRoundTrip closed.Histogram
	Unsent                  uint64 // bytes

	// Sent are bytes of data, each counted once, and SentAgain those retransmitted.
	Sent, SentAgain uint64
	// DataSegments were sent, retransmissions included; Retransmitted are these, and
	// Spurious those of them that the peer had already.
	DataSegments, Retransmitted, Spurious uint64
	// Stalled, if KnowsStalled, and the others are times as in [socket.TCPInfo].
	Stalled, Busy, LimitedByReceiver, LimitedBySendBuffer time.Duration
	KnowsStalled                                          bool

	// DeliveryRate is the sum of those of Delivering connections, which their programs
	// do not limit, in bytes per second.
	DeliveryRate uint64
	Delivering   uint64
	// Algorithms counts the connections by congestion control, in the order of
	// [Fold.Algorithms].
	Algorithms [maxAlgorithms + 1]uint64
}

// maxAlgorithms is how many congestion control algorithms are counted apart. Linux 6.18
// has 16, of which a host uses one or two.
const maxAlgorithms = 7

// Connections returns how many there are.
func (s *Service) Connections() (n uint64) {
	for _, count := range s.Algorithms {
		n += count
	}
	return n
}

func (s *Service) count(i *socket.TCPInfo, algorithm int) {
	s.Algorithms[algorithm]++
	if i.RoundTrip > 0 {
		s.RoundTrip.Observe(i.RoundTrip)
	}
	if i.MinRoundTrip > 0 {
		s.MinRoundTrip.Observe(i.MinRoundTrip)
	}
	s.Unsent += uint64(i.Unsent)
	s.Sent += i.Sent
	s.SentAgain += i.SentAgain
	s.DataSegments += uint64(i.DataSegments)
	s.Retransmitted += uint64(i.SegmentsRetransmitted)
	s.Spurious += uint64(i.Spurious)
	s.Stalled += i.Stalled
	s.Busy += i.Busy
	s.LimitedByReceiver += i.LimitedByReceiver
	s.LimitedBySendBuffer += i.LimitedBySendBuffer
	s.KnowsStalled = s.KnowsStalled || i.KnowsStalled
	if i.DeliveryRate > 0 {
		s.DeliveryRate += i.DeliveryRate
		s.Delivering++
	}
}

// Add adds the connections of another service.
func (s *Service) Add(o *Service) {
	s.RoundTrip.Add(&o.RoundTrip)
	s.MinRoundTrip.Add(&o.MinRoundTrip)
	s.Unsent += o.Unsent
	s.Sent += o.Sent
	s.SentAgain += o.SentAgain
	s.DataSegments += o.DataSegments
	s.Retransmitted += o.Retransmitted
	s.Spurious += o.Spurious
	s.Stalled += o.Stalled
	s.Busy += o.Busy
	s.LimitedByReceiver += o.LimitedByReceiver
	s.LimitedBySendBuffer += o.LimitedBySendBuffer
	s.KnowsStalled = s.KnowsStalled || o.KnowsStalled
	s.DeliveryRate += o.DeliveryRate
	s.Delivering += o.Delivering
	for i, n := range o.Algorithms {
		s.Algorithms[i] += n
	}
}

// Fold adds up the connections of one read.
type Fold struct {
	// Inbound has the services of listeners, in the order of the table: nil for one
	// without connections or without series of its own.
	Inbound []*Service
	// Observed is how many connections were added.
	Observed int
	// Outbound has those of remote ports.
	Outbound map[uint16]*Service
	// OtherInbound and OtherOutbound have all other connections.
	OtherInbound, OtherOutbound Service
	// Algorithms has the names of congestion control algorithms; the last stands for
	// all beyond the limit, and for no name.
	Algorithms [maxAlgorithms + 1]socket.CongestionControl

	series     []bool // whether a listener has series of its own
	ports      Ports
	algorithms int
	last       struct { // outbound: the next connection is often to the same port
		port    uint16
		service *Service
	}
}

// Ports says which remote ports get a service of their own.
type Ports struct {
	First map[uint16]bool // these, whenever they are seen
	Room  int             // others, as they are seen, until there are so many in all
}

// New returns an empty fold for the listeners of a table, of which some have series of
// their own.
func New(table *socket.Table, series map[socket.ListenerID]bool, ports Ports) *Fold {
	f := &Fold{
		Inbound:  make([]*Service, len(table.Listeners)),
		Outbound: map[uint16]*Service{},
		series:   make([]bool, len(table.Listeners)),
		ports:    ports,
	}
	for i := range table.Listeners {
		f.series[i] = series[table.Listeners[i].ListenerID]
	}
	return f
}

// Observe adds a connection, as a [socket.Observer].
func (f *Fold) Observe(s *socket.Socket, listener int, outbound bool) {
	if s.Info.Established {
		f.Observed++
		f.of(s, listener, outbound).count(s.Info, f.algorithm(s.Info.Congestion))
	}
}

func (f *Fold) of(s *socket.Socket, listener int, outbound bool) *Service {
	switch {
	case outbound:
		return f.ofPort(s.Remote.Port())
	case listener < 0 || !f.series[listener]:
		return &f.OtherInbound
	case f.Inbound[listener] == nil:
		f.Inbound[listener] = &Service{}
	}
	return f.Inbound[listener]
}

func (f *Fold) ofPort(port uint16) *Service {
	if f.last.service != nil && f.last.port == port {
		return f.last.service
	}
	service := f.Outbound[port]
	switch {
	case service != nil:
	case f.ports.First[port] || len(f.Outbound) < f.ports.Room:
		service = &Service{}
		f.Outbound[port] = service
	default:
		service = &f.OtherOutbound
	}
	f.last.port, f.last.service = port, service
	return service
}

// algorithm returns the index of a congestion control algorithm.
func (f *Fold) algorithm(name socket.CongestionControl) int {
	for i := range f.algorithms {
		if f.Algorithms[i] == name {
			return i
		}
	}
	if name == (socket.CongestionControl{}) || f.algorithms == maxAlgorithms {
		return maxAlgorithms
	}
	f.Algorithms[f.algorithms] = name
	f.algorithms++
	return f.algorithms - 1
}
