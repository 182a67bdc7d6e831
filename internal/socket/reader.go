package socket

import (
	"context"
	"errors"
	"net/netip"
)

// Reader reads the listeners of a host. Whoever asks what listens here, the
// daemon or a command, reads through one, so that they agree.
type Reader struct {
	Source Source
	// Netns is the name of the network namespace; empty is the host's own.
	Netns string
	// EphemeralPorts reads the ports that clients get. Beside an error it returns
	// what the system starts with.
	EphemeralPorts func() (EphemeralPorts, error)
	// Named and Aged are those of [Criteria].
	Named func(*Socket) bool
	Aged  func(s *Socket, chosen bool) Age
	// Kinds says what addresses are to this host; those that it leaves out are
	// unknown. Nil says nothing.
	Kinds func([]netip.Addr) map[netip.Addr]AddressKind
}

// Listening returns the listeners. What cannot be read whole is an error, but for
// an interruption, which the table reports.
func (r Reader) Listening(ctx context.Context) (*Table, error) {
	ports, portsErr := r.EphemeralPorts()
	criteria := Criteria{Netns: r.Netns, Ephemeral: ports, Named: r.Named, Aged: r.Aged}
	table, err := Twice(func() (*Table, error) {
		return ReadListening(r.Source.Sockets(ctx, Listening), criteria)
	})
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return nil, err
	}
	table.locate(r.Kinds)
	table.Interrupted, table.DefaultPorts = err, portsErr
	return table, nil
}

// Twice reads again after an interruption or a loss. A second interruption is
// returned beside what was read: on a host that busy, figures that are a little
// off are better than none. A second loss is a failure.
func Twice[T any](read func() (T, error)) (T, error) {
	result, err := read()
	if errors.Is(err, ErrInterrupted) || errors.Is(err, ErrIncomplete) {
		return read()
	}
	return result, err
}
