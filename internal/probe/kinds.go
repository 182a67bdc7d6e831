package probe

// The kinds of probers: the values of [Module.Kind], of the key prober and of
// the label prober.
const (
	KindTCP  = "tcp"
	KindUDP  = "udp"
	KindSTUN = "stun"
	KindUnix = "unix"
	KindGRPC = "grpc"
	KindHTTP = "http"
	KindDNS  = "dns"
	KindICMP = "icmp"

	KindWebSocket = "websocket"
)

// costly is a prober that may be heavy, as tcp is with TLS.
type costly interface{ Heavy() bool }

// Heavy reports whether a probe takes milliseconds of CPU: a TLS handshake does.
// Such probes have a smaller pool of their own, so that they do not hold up the
// others.
func (m *Module) Heavy() bool {
	if p, ok := m.Prober.(costly); ok {
		return p.Heavy()
	}
	return m.Kind == KindHTTP || m.Kind == KindGRPC || m.Kind == KindWebSocket
}
