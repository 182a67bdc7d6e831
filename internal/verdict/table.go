package verdict

// Info is what is fixed of a code: a row of the table in docs/diagnosis.md.
type Info struct {
	Name    string
	Place   Place
	Meaning string
	Next    string // what to try where the facts name nothing better
	// ErrorType is the value of error.type that OpenTelemetry proposes for failed
	// connections (semantic-conventions issue 3682); empty where none is.
	ErrorType string
	// Cloud names the codes of the analyzers of AWS (VPC Reachability Analyzer), Google
	// (Connectivity Tests, DropInfo) and Azure (Network Watcher, connection
	// troubleshoot) that say most nearly the same; empty where none does.
	Cloud string
}

// The values of error.type.
const (
	refused         = "refused"
	reset           = "reset"
	timedOut        = "timed_out"
	hostUnreachable = "host_unreachable"
	netUnreachable  = "net_unreachable"
	other           = "_OTHER"
)

const (
	cloudFirewall  = "AWS ENI_SG_RULES_MISMATCH, SUBNET_ACL_RESTRICTION; Google FIREWALL_RULE; Azure NetworkSecurityRule"
	cloudGuest     = "Azure GuestFirewall"
	cloudNoRoute   = "AWS NO_ROUTE_TO_DESTINATION; Google NO_ROUTE; Azure UserDefinedRoute"
	cloudBlackhole = "AWS BAD_STATE_ROUTE; Google ROUTE_BLACKHOLE; Azure UserDefinedRoute"
	cloudStopped   = "AWS BAD_STATE; Google INSTANCE_NOT_RUNNING"
	cloudDNS       = "Azure DnsResolution"
	cloudListener  = "AWS ELB_LISTENERS_MISMATCH"
)

// Of returns what is fixed of a code.
func Of(c Code) Info { return infos[min(c, Unexplained)] }

// String returns the name of a code.
func (c Code) String() string { return Of(c).Name }

// Place returns where the cause is.
func (c Code) Place() Place { return Of(c).Place }

var infos = [NumCodes]Info{
	Open: {"open", Nowhere, "reached, and all that was asked of it came", "", "", ""},

	NotListening:     {"not_listening", Here, "an address of this host: nothing listens on the port", "start the service", refused, cloudListener},
	LoopbackOnly:     {"loopback_only", Here, "an address of this host: the listener accepts loopback only", "bind the service to this address, or connect to loopback", refused, cloudListener},
	OtherAddress:     {"other_address", Here, "an address of this host: the listener has another address, family or device", "bind the service to this address, or connect to the listener's", refused, cloudListener},
	QueueFull:        {"queue_full", Here, "an address of this host: the accept queue is full, the service does not accept", "find out why the service does not accept", timedOut, ""},
	LocalRejects:     {"local_rule_rejects", Here, "a firewall rule of this host rejects", "nft list ruleset", refused, cloudGuest},
	LocalDrops:       {"local_rule_drops", Here, "a firewall rule of this host drops", "nft list ruleset", timedOut, cloudGuest},
	NoRoute:          {"no_route", Here, "this host has no route to the target", "ip route get TARGET", netUnreachable, cloudNoRoute},
	RouteBlackhole:   {"route_blackhole", Here, "a route of this host discards: type blackhole", "ip route get TARGET", other, cloudBlackhole},
	RouteUnreachable: {"route_unreachable", Here, "a route of this host rejects: type unreachable", "ip route get TARGET", hostUnreachable, cloudBlackhole},
	RouteProhibits:   {"route_prohibits", Here, "a route or rule of this host prohibits", "ip route get TARGET; ip rule", other, cloudBlackhole},
	InterfaceDown:    {"interface_down", Here, "the interface of the route is down, or has no carrier", "ip link", hostUnreachable, cloudStopped},
	ReversePath:      {"reverse_path", Here, "the target is silent, and the reverse path filter of this host discards packets", "ip route get TARGET; net.ipv4.conf.all.rp_filter=2, or route the target over the interface of its answers", timedOut, ""},
	NoEphemeralPort:  {"no_ephemeral_port", Here, "every ephemeral port towards the target is in use", "ss -tan dst TARGET; net.ipv4.ip_local_port_range", other, "Azure PortThrottled"},
	NoResources:      {"no_resources", Here, "no file descriptors, no memory, or no such address family", "ulimit -n", other, "Azure SocketBind"},
	SourceUnusable:   {"source_unusable", Here, "the source address is not of this host, or of another family", "ip address", other, "Azure SocketBind"},
	NoPrivilege:      {"no_privilege", Here, "the socket, or entering its network namespace, requires a privilege", "CAP_NET_RAW, or net.ipv4.ping_group_range", other, ""},
	NoNamespace:      {"no_namespace", Here, "there is no network namespace of this name, or it is not known which one is meant", "port_exporter listeners --all-namespaces", other, ""},
	ModuleUnusable:   {"module_unusable", Here, "a file or setting of the module cannot be used", "the error names it", other, ""},
	NotAllowed:       {"not_allowed", Here, "port_exporter may not probe this address", "probes.allow", other, ""},
	NotTried:         {"not_tried", Here, "no time or no slot was left to try", "interval: for the target, or a longer scrape timeout", other, ""},
	BadAddress:       {"bad_address", Here, "no address that the module accepts", "the error names the form", other, ""},
	SocketMissing:    {"socket_missing", Here, "a unix-domain socket: there is no such path", "start the service", other, ""},
	SocketForbidden:  {"socket_forbidden", Here, "a unix-domain socket: its permissions", "the group of the socket, or of the directory", other, ""},
	SocketType:       {"socket_type", Here, "a unix-domain socket of another type", "ss -xl", other, ""},

	NeighbourDown:   {"neighbour_down", OnTheWay, "the next hop, the host itself or its gateway, does not answer ARP or ND", "ip neighbour", hostUnreachable, cloudStopped},
	PathRejects:     {"path_rejects", OnTheWay, "a firewall or router on the way rejects", "ask who runs it", refused, cloudFirewall},
	PathNoRoute:     {"path_no_route", OnTheWay, "a router has no route to the target", "ask who runs it", netUnreachable, cloudNoRoute},
	PathUnreachable: {"path_unreachable", OnTheWay, "a router reports that the target cannot be reached", "ask who runs it", hostUnreachable, cloudNoRoute},
	RoutingLoop:     {"routing_loop", OnTheWay, "the hop limit ran out: a routing loop", "ask who runs the routers", hostUnreachable, cloudNoRoute},
	PathDrops:       {"path_drops", OnTheWay, "packets die behind a known hop", "ask who runs it", timedOut, cloudFirewall},
	PacketTooLarge:  {"packet_too_large", OnTheWay, "a packet is larger than the path takes", "a smaller packet, or a smaller MTU", other, ""},
	MTUBlackHole:    {"mtu_black_hole", OnTheWay, "large packets are lost and nothing reports it", "a smaller MTU, or net.ipv4.tcp_mtu_probing=1", timedOut, ""},
	ProxyFails:      {"proxy_fails", OnTheWay, "the proxy cannot be reached, fails or refuses", "the proxy, or proxy_url", other, ""},

	Refused:              {"refused", There, "the host resets: nothing listens there, or a firewall answers so", "start the service there, or bind it to this address", refused, cloudListener},
	OneFamily:            {"one_family", There, "one version of IP answers and the other does not", "bind the service to both, or drop the record of one", refused, cloudListener},
	TargetRejects:        {"target_rule_rejects", There, "a firewall of the target host rejects", "a rule there must accept", refused, cloudGuest},
	HostDown:             {"host_down", There, "the host does not answer its own segment", "start the host, or correct the address", hostUnreachable, cloudStopped},
	ConnectionReset:      {"connection_reset", There, "connected and then reset", "the service's log, its access list, its limits", reset, ""},
	ConnectionClosed:     {"connection_closed", There, "connected and then closed before the exchange was over", "the service's log, its access list, its limits", reset, ""},
	ServiceSilent:        {"service_silent", There, "it accepts connections and then says nothing", "the service; or large packets are lost", timedOut, ""},
	SilentPort:           {"silent_port", There, "its host answers, and the port does not: a firewall drops, or the accept queue is full", "on the target: nft list ruleset; ss -ltn", timedOut, cloudGuest},
	CertificateExpired:   {"certificate_expired", There, "its certificate has expired", "renew it", other, ""},
	CertificateNotYet:    {"certificate_not_yet_valid", There, "its certificate is not valid yet", "the clocks of both hosts", other, ""},
	CertificateName:      {"certificate_name", There, "its certificate is for other names", "--hostname or server_name; else another certificate", other, ""},
	CertificateUntrusted: {"certificate_untrusted", There, "its certificate is not trusted", "ca_file; the server must send its intermediates", other, ""},
	ClientCertificate:    {"client_certificate", There, "it asks for a client certificate", "cert_file and key_file of tls_config", other, ""},
	NotTLS:               {"not_tls", There, "it does not answer with TLS", "another port, or starttls", other, ""},
	TLSFails:             {"tls_fails", There, "the TLS handshake fails", "protocol versions, ciphers, signatures", other, ""},
	UnexpectedAnswer:     {"unexpected_answer", There, "it answers, and not what is expected", "the service, or the expectation", other, ""},
	UnexpectedStatus:     {"unexpected_status", There, "it answers with a status that is not expected", "the service's log", other, ""},
	ProtocolError:        {"protocol_error", There, "it answers against its protocol", "is it the right service?", other, ""},

	NameNotFound:        {"name_not_found", NameService, "the name does not exist", "correct the name", other, cloudDNS},
	NoAddressOfFamily:   {"no_address_of_family", NameService, "the name has no address of the wanted family", "preferred_ip_protocol, or add the record", other, cloudDNS},
	NameBlocked:         {"name_blocked", NameService, "the name leads to 0.0.0.0 or ::, the address of no host", "dig NAME; ask who runs the name server for its block list", other, cloudDNS},
	NameServerFails:     {"name_server_fails", NameService, "the name server answers with an error", "resolvectl query NAME, or dig NAME", other, cloudDNS},
	NameServerSilent:    {"name_server_silent", NameService, "the name server does not answer", "resolvectl query NAME, or dig NAME", other, cloudDNS},
	NameServerUnreached: {"name_server_unreached", NameService, "no name server can be reached", "/etc/resolv.conf", other, cloudDNS},

	NoAnswer:    {"no_answer", Undecided, "silence: dropped on the way or there, the host is down, or the way back is broken", "port_exporter check --trace TARGET", timedOut, cloudFirewall},
	NoReply:     {"no_reply", Undecided, "UDP: no reply; open or filtered", "a payload that the service answers", timedOut, ""},
	Unreachable: {"unreachable", Undecided, "no route, or the host is down; who says so is unknown", "ip route get TARGET", hostUnreachable, cloudNoRoute},
	Prohibited:  {"prohibited", Undecided, "a firewall or an access list prohibits; who says so is unknown", "ask who runs the firewalls on the way", other, cloudFirewall},
	Unexplained: {"unexplained", Undecided, "none of the above", "port_exporter check --debug TARGET", other, ""},
}
