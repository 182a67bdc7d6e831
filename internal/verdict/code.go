// Package verdict says why a target cannot be reached: a closed code, the place of the
// cause, one sentence, and what to try next. It is pure: the facts are gathered
// elsewhere. docs/diagnosis.md has the table of the codes.
package verdict

// Place is where the cause of a verdict is. It is the label place.
type Place uint8

// The places.
const (
	Nowhere     Place = iota // the target is open
	Here                     // this host: a socket, a route, a rule, or port_exporter itself
	OnTheWay                 // a hop, a firewall or a proxy
	There                    // the target: its host, its firewall or its service
	NameService              // the name server, or the name
	Undecided                // silence: the place cannot be known from this
	numPlaces
)

// String returns the place as the label has it.
func (p Place) String() string {
	return [numPlaces + 1]string{"", "here", "path", "there", "names", "unknown", "unknown"}[min(p, numPlaces)]
}

// Words returns the place for people.
func (p Place) Words() string {
	return [numPlaces + 1]string{"nowhere", "on this host", "on the way", "at the target", "in the name service", "unknown", "unknown"}[min(p, numPlaces)]
}

// Code is a cause. Its names never change.
type Code uint8

// The codes, by place.
const (
	Open Code = iota

	NotListening         // our address: nothing listens on the port
	LoopbackOnly         // our address: the listener takes loopback only
	OtherAddress         // our address: the listener takes another address, family or device
	QueueFull            // our address: the accept queue of the listener is full
	LocalRejects         // a rule of this host rejects
	LocalDrops           // a rule of this host drops
	NoRoute              // no route to the target
	RouteBlackhole       // a route of type blackhole
	RouteUnreachable     // a route of type unreachable
	RouteProhibits       // a route of type prohibit
	InterfaceDown        // the interface of the route is down, or has no carrier
	ReversePath          // the reverse path filter of this host discards the answers
	NoEphemeralPort      // every ephemeral port towards the target is in use
	NoResources          // no descriptors, no memory, no such address family
	SourceUnusable       // the source address is not one of this host, or of another family
	NoPrivilege          // a socket needs a privilege that is missing
	NoNamespace          // the network namespace of the target is not there, or not known
	ModuleUnusable       // a file or setting of the module cannot be used
	NotAllowed           // port_exporter may not probe this address
	NotTried             // no time or no slot was left
	BadAddress           // no address that the module takes
	SocketMissing        // unix: there is no such path
	SocketForbidden      // unix: its permissions
	SocketType           // unix: a socket of another type
	NeighbourDown        // the next hop does not answer ARP or ND
	PathRejects          // a router or firewall on the way rejects
	PathNoRoute          // a router has no route
	PathUnreachable      // a router reports another error
	RoutingLoop          // the hop limit ran out
	PathDrops            // the packets die behind a known hop
	PacketTooLarge       // a packet is larger than the path takes, and a hop says so
	MTUBlackHole         // large packets are lost in silence
	ProxyFails           // the proxy failed, or refused
	Refused              // the host resets: nothing listens, or a firewall answers in its place
	OneFamily            // one version of IP answers, and the other does not
	TargetRejects        // a firewall of the target rejects
	HostDown             // the last hop reports that the host does not answer
	ConnectionReset      // reset after the handshake
	ConnectionClosed     // closed before the exchange was over
	ServiceSilent        // it accepts, and then says nothing
	SilentPort           // its host answers, and the port does not
	CertificateExpired   // its certificate has expired
	CertificateNotYet    // its certificate is not valid yet
	CertificateName      // its certificate is for other names
	CertificateUntrusted // its certificate is not trusted for another reason
	ClientCertificate    // it asks for a client certificate
	NotTLS               // it does not speak TLS
	TLSFails             // the handshake fails in another way
	UnexpectedAnswer     // it answers, and not what is expected
	UnexpectedStatus     // a status that is not expected
	ProtocolError        // an answer against its protocol
	NameNotFound         // the name does not exist
	NoAddressOfFamily    // the name has no address of the wanted family
	NameBlocked          // the name leads to 0.0.0.0 or ::
	NameServerFails      // the name server answers with an error
	NameServerSilent     // the name server does not answer
	NameServerUnreached  // the name server cannot be reached
	NoAnswer             // silence
	NoReply              // UDP: silence, open or filtered
	Unreachable          // unreachable, and who says so is unknown
	Prohibited           // prohibited, and who says so is unknown
	Unexplained          // none of these
	NumCodes
)
