package netaddr

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Contains reports whether the port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }
