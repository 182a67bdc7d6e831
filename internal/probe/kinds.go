package probe

// The kinds of probers: the values of [Module.Kind], of the key prober and of
// the label prober.
const (
	KindHTTP      = "http"
	KindWebSocket = "websocket"
	KindTCP       = "tcp"
	KindUDP       = "udp"
	KindSTUN      = "stun"
	KindUnix      = "unix"
	KindGRPC      = "grpc"
	KindDNS       = "dns"
	KindICMP      = "icmp"
)

// Kinds returns every kind.
func Kinds() []string {
	return []string{KindHTTP, KindWebSocket, KindTCP, KindUDP, KindSTUN, KindUnix, KindGRPC, KindDNS, KindICMP}
}

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
