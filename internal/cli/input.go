package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// maxInput bounds a saved table, in bytes: some hundred thousand listeners.
const maxInput = 64 << 20

// readTable reads the listeners of a file that listeners --output=json wrote,
// perhaps on another host; "-" is standard input.
func readTable(file string, stdin io.Reader) ([]socket.Owned, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	owned, err := parseTable(stdin)
	if err != nil {
		return nil, fmt.Errorf("--input=%s: %w\nhint: write it with: port_exporter listeners --output=json", file, err)
	}
	return owned, nil
}

func parseTable(r io.Reader) ([]socket.Owned, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("it is larger than %d MiB", maxInput>>20)
	}
	var rows []row
	if err := json.Unmarshal(text, &rows); err != nil {
		return nil, err
	}
	if rows == nil {
		return nil, errors.New("it holds no list of listeners")
	}
	owned := make([]socket.Owned, len(rows))
	for i := range rows {
		if owned[i], err = rows[i].owned(); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return owned, nil
}

// owned returns the listener that a row was made of, without what rows leave out.
func (r *row) owned() (o socket.Owned, err error) {
	if o.Protocol, err = named(r.Protocol, "protocol", socket.Judged()); err != nil {
		return o, err
	}
	if r.Address != "" || o.Protocol != socket.Packet {
		if o.Address, err = netip.ParseAddr(r.Address); err != nil {
			return o, fmt.Errorf("address: %w", err)
		}
		o.Scope = socket.ScopeOf(o.Address)
	}
	if r.Port == 0 && !o.IsPortless() {
		return o, errors.New("port: it is missing")
	}
	if err := r.form(&o); err != nil {
		return o, err
	}
	if r.Scope != "" {
		if o.Scope, err = named(r.Scope, "scope", socket.Scopes()); err != nil {
			return o, err
		}
	}
	o.Netns, o.Port, o.Interface = r.Netns, r.Port, r.Interface
	o.DualStack, o.Ephemeral, o.MayBeClient, o.Sockets = r.DualStack, r.Ephemeral, r.MayBeClient, r.Sockets
	if r.AcceptQueue != nil {
		o.AcceptQueue, o.Known = *r.AcceptQueue, o.Known|socket.KnowsQueues
	}
	if r.AcceptQueueLimit != nil {
		o.AcceptQueueLimit, o.Known = *r.AcceptQueueLimit, o.Known|socket.KnowsAcceptQueueLimit
	}
	o.Owner = socket.Owner{
		Process: r.Process, Comm: r.Comm, PID: r.PID, User: r.User, UserID: r.UID, Executable: r.Executable, Deleted: r.Deleted, Unit: r.Unit, Container: r.Container,
	}
	return o, nil
}

// form reads what packet sockets have.
func (r *row) form(o *socket.Owned) (err error) {
	if o.Protocol != socket.Packet {
		return nil
	}
	if o.PacketType, err = named(r.Type, "type", socket.PacketTypes()); err != nil {
		return err
	}
	o.Filter, err = named(r.Filter, "filter", socket.Filters())
	return err
}

// named finds a value by its name.
func named[T fmt.Stringer](word, what string, all []T) (T, error) {
	for _, value := range all {
		if value.String() == word {
			return value, nil
		}
	}
	var none T
	return none, fmt.Errorf("%s: %q is not known", what, word)
}
