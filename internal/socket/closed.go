package socket

// Closed is a TCP socket that the kernel has freed, with the final figures of its
// connection. Socket has its two ends and its device; the rest of it is unknown.
type Closed struct {
	Socket
	// TCPInfo has the final figures. A connection that was not Established is a
	// connect() that failed, or that its program gave up. Received is without the FIN,
	// which most had: whether one had is unknown.
	TCPInfo
	// Wiped says that the kernel forgot the remote port and all figures before it
	// freed the socket: after a blocking connect() that failed, or a close() with
	// SO_LINGER and no time to linger (tcp_disconnect in net/ipv4/tcp.c).
	Wiped bool
}

// PartyOf returns whose connection a freed socket was: the index of its listener,
// or -1, and without one whether it was made from here. It is a guess where no
// listener of the table has the port and it may be that of one all the same: then
// a newer table decides.
func (t *Table) PartyOf(c *Closed) (listener int, outbound, guess bool) {
	if !c.Established {
		return -1, true, false
	}
	if at := t.Acceptor(&c.Socket); at >= 0 {
		return at, false, false
	}
	if t.unreadPorts[c.Local.Port()] {
		return -1, false, false
	}
	ephemeral := t.criteria.Ephemeral
	if !ephemeral.Contains(c.Local.Port()) {
		return -1, t.isOutbound(&c.Socket), true
	}
	return -1, true, ephemeral.Contains(c.Remote.Port())
}

// IsEphemeral reports whether a port is one that the kernel gives to clients.
func (t *Table) IsEphemeral(port uint16) bool { return t.criteria.Ephemeral.Contains(port) }
