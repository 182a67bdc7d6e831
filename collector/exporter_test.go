package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// made is porttest.Socket, under a name short enough for tables.
var made = porttest.Socket

func options(source socket.Source) Options {
	return Options{
		Source:     source,
		SourceName: "sock_diag",
		Protocols:  socket.Protocols(),
		EphemeralPorts: func() (socket.EphemeralPorts, error) {
			return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
		},
		Owners:      owners{},
		KernelStats: func() (*kernel.Stats, error) { return kernelStats(), nil },
		Watched:     func() Watched { return Watched{} },
		Limits:      Limits{Listeners: 100, OutboundPorts: 2, OrphanedPorts: 2, Owners: 3, Destinations: 2, WatchedDestinations: 3, DestinationShare: 0.01},
		Memory:      NewMemory(func() time.Time { return time.Unix(1_800_000_000, 0) }),
		Disabled:    []string{healthName}, // the sockets of most tests have no TCP_INFO
		Logger:      slog.New(slog.DiscardHandler),
	}
}

// kernelStats are stats in which every figure is there, each with a value of its
// own.
func kernelStats() *kernel.Stats {
	stats, next := &kernel.Stats{}, 1000.0
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		for _, field := range v.Fields() {
			if field.Kind() == reflect.Struct {
				fill(field)
				continue
			}
			field.Set(reflect.ValueOf(new(next)))
			next++
		}
	}
	fill(reflect.ValueOf(stats).Elem())
	return stats
}

// owners has the owners of listeners by port; ports that it lacks have none.
type owners map[uint16][]socket.Owner

func (o owners) Owners(_ context.Context, listeners []socket.Listener) owner.Result {
	var r owner.Result
	for _, l := range listeners {
		if len(o[l.Port]) == 0 {
			r.Unattributed++
			r.Missing = []string{"CAP_SYS_PTRACE"}
			r.Owned = append(r.Owned, socket.Owned{Listener: l})
		}
		for _, who := range o[l.Port] {
			r.Owned = append(r.Owned, socket.Owned{Listener: l, Owner: who})
		}
	}
	return r
}

// checked returns one scrape, after what a registry would check of it:
// prometheus.Gatherers finds series that stand twice, types that do not fit and
// labels that are not valid.
func checked(t testing.TB, ctx context.Context, o Options, f Filter) prometheus.Gatherer {
	t.Helper()
	s, err := New(o).Scrape(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	return prometheus.Gatherers{s}
}

// exposition returns a scrape as text, without the figures that differ each time.
func exposition(t testing.TB, ctx context.Context, o Options, f Filter) string {
	t.Helper()
	families, err := checked(t, ctx, o, f).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	return regexp.MustCompile(`(?m)^(port_scrape_collector_duration_seconds\{.*\}) .*$`).ReplaceAllString(text.String(), "$1 0")
}

func queued(receive, send uint32) func(*socket.Socket) {
	return func(s *socket.Socket) { s.ReceiveQueue, s.SendQueue = receive, send }
}

func backlog(length, limit, drops uint32) func(*socket.Socket) {
	return func(s *socket.Socket) { s.AcceptQueue, s.AcceptQueueLimit, s.Drops = length, limit, drops }
}

func v6only(s *socket.Socket) { s.V6Only = true }

func unanswered(s *socket.Socket) { s.Retransmits = 2 }

func noRoom(s *socket.Socket) { s.ZeroWindow = true }

func madeIn(cgroup uint64) func(*socket.Socket) {
	return func(s *socket.Socket) { s.CgroupID = cgroup }
}

// storyGroups are the cgroups of the story connection_owners.
func storyGroups(_ context.Context, ids []uint64) map[uint64]owner.Group {
	all := map[uint64]owner.Group{
		1: {Unit: "nginx.service"}, 2: {Unit: "nginx.service"}, 3: {Container: "pod0/containerd-0123456789ab"}, 4: {Unit: "postfix.service"},
		6: {Unit: "a\xff.service"}, 7: {Unit: `a\xff.service`},
	}
	maps.DeleteFunc(all, func(id uint64, _ owner.Group) bool { return !slices.Contains(ids, id) })
	return all
}

func device(name string) func(*socket.Socket) {
	return func(s *socket.Socket) { s.Interface = name }
}

// fromProcfs removes what /proc/net/tcp does not have.
func fromProcfs(s *socket.Socket) { s.Known = socket.KnowsQueues | socket.KnowsUID }

// fromGopsutil takes away all but addresses and states.
func fromGopsutil(s *socket.Socket) { s.Known = 0 }

// stories are hosts, each with a golden file of what is said of it.
var stories = map[string]porttest.Sockets{
	"empty": nil,
	"web_server": slices.Concat(
		[]socket.Socket{
			made(socket.TCP, socket.Listen, "[::]:443", "", backlog(3, 511, 12)),
			made(socket.TCP, socket.Listen, "[::]:443", "", backlog(512, 511, 1)),
			made(socket.TCP, socket.Listen, "127.0.0.1:6379", "", backlog(0, 128, 0)),
			made(socket.TCP, socket.Listen, "10.0.0.5:443", "", device("eth1"), backlog(0, 128, 0)),
			made(socket.TCP, socket.Listen, "[::]:22", "", v6only, backlog(0, 128, 0)),
			made(socket.TCP, socket.Listen, "10.0.0.6:80", "", backlog(0, 128, 0)), // of a standby
			made(socket.UDP, socket.Unconnected, "0.0.0.0:53", "", queued(2304, 0), func(s *socket.Socket) { s.Drops = 7 }),
			made(socket.UDP, socket.Unconnected, "0.0.0.0:41000", ""),
			made(socket.UDP, socket.Connected, "10.0.0.5:41001", "10.0.0.2:53"),
			made(socket.UDPLite, socket.Unconnected, "[fe80::1]:500", "", device("eth0")),
			made(socket.TCP, socket.FinWait1, "10.0.0.5:443", "192.0.2.9:5000", queued(0, 999)),
			made(socket.TCP, socket.Established, "127.0.0.1:6379", "127.0.0.1:40002", queued(10, 0)),
			made(socket.TCP, socket.Established, "127.0.0.1:40002", "127.0.0.1:6379", queued(0, 5)),
			made(socket.TCP, socket.Established, "10.0.0.5:443", "192.0.2.10:5000", device("eth1")),
			made(socket.TCP, socket.Established, "10.0.0.5:443", "192.0.2.11:5000", device("eth1"), noRoom),
			made(socket.TCP, socket.Established, "10.0.0.5:443", "192.0.2.12:5000", device("eth1"), unanswered),
			made(socket.TCP, socket.SynRecv, "10.0.0.5:443", "192.0.2.13:5000", device("eth1"), unanswered),
		},
		porttest.Times(40, made(socket.TCP, socket.Established, "[::ffff:10.0.0.5]:443", "[::ffff:192.0.2.7]:5000", queued(1, 2))),
		porttest.Times(20, made(socket.TCP, socket.TimeWait, "[2001:db8::5]:443", "[2001:db8::7]:5000")),
	),
	"crashed_service": {
		made(socket.TCP, socket.CloseWait, "10.0.0.5:8080", "10.0.0.9:41000"),
		made(socket.TCP, socket.FinWait2, "10.0.0.5:8080", "10.0.0.9:41001"),
		made(socket.TCP, socket.Established, "10.0.0.5:20", "10.0.0.9:41001", func(s *socket.Socket) { s.Inode = 4711 }), // data of FTP
		made(socket.TCP, socket.SynSent, "10.0.0.5:41002", "10.0.0.3:5432"),
		made(socket.TCP, socket.SynSent, "10.0.0.5:41003", "10.0.0.3:5432", unanswered),
		made(socket.TCP, socket.SynSent, "10.0.0.5:41004", "10.0.0.4:5432", unanswered),
		made(socket.TCP, socket.SynSent, "10.0.0.5:41005", "10.0.0.6:5432", unanswered),
		made(socket.TCP, socket.SynSent, "10.0.0.5:41006", "10.0.0.6:5432", unanswered),
	},
	"many_ports": {
		made(socket.TCP, socket.Established, "10.0.0.5:41000", "10.0.0.9:80", queued(1, 1)),
		made(socket.TCP, socket.Established, "10.0.0.5:41001", "10.0.0.9:80"),
		made(socket.TCP, socket.Established, "10.0.0.5:41002", "10.0.0.9:81", queued(2, 2)),
		made(socket.TCP, socket.TimeWait, "10.0.0.5:41003", "10.0.0.9:81"),
		made(socket.TCP, socket.Established, "10.0.0.5:41004", "10.0.0.9:82", queued(4, 4), noRoom),
		made(socket.TCP, socket.LastAck, "10.0.0.5:41005", "10.0.0.9:83", queued(8, 8), unanswered),
		made(socket.TCP, socket.CloseWait, "10.0.0.5:90", "10.0.0.9:41000"),
		made(socket.TCP, socket.CloseWait, "10.0.0.5:91", "10.0.0.9:41000"),
		made(socket.TCP, socket.CloseWait, "10.0.0.5:92", "10.0.0.9:41000"),
	},
	"procfs": {
		made(socket.TCP, socket.Listen, "[::]:443", "", fromProcfs, backlog(3, 0, 0)),
		made(socket.TCP, socket.Listen, "0.0.0.0:22", "", fromProcfs),
		made(socket.TCP, socket.Listen, "[::]:22", "", fromProcfs),
		made(socket.TCP, socket.Established, "10.0.0.5:443", "10.0.0.9:41000", fromProcfs, queued(3, 4)),
	},
	"gopsutil": {
		made(socket.TCP, socket.Listen, "[::]:443", "", fromGopsutil),
		made(socket.UDP, socket.Unconnected, "0.0.0.0:53", "", fromGopsutil),
		made(socket.TCP, socket.Established, "10.0.0.5:443", "10.0.0.9:41000", fromGopsutil),
		made(socket.TCP, socket.Established, "10.0.0.5:41000", "10.0.0.9:443", fromGopsutil),
	},
	"owners": {
		made(socket.TCP, socket.Listen, "0.0.0.0:80", ""),
		made(socket.TCP, socket.Listen, "127.0.0.1:80", ""),
		made(socket.TCP, socket.Listen, "0.0.0.0:81", ""),
		made(socket.TCP, socket.Listen, "0.0.0.0:82", ""),
		made(socket.TCP, socket.Listen, "0.0.0.0:83", ""),
		made(socket.TCP, socket.Listen, "0.0.0.0:84", ""),
	},
	"policy": slices.Concat([]socket.Socket{
		made(socket.TCP, socket.Listen, "0.0.0.0:80", ""),
		made(socket.TCP, socket.Listen, "127.0.0.1:80", ""),
		made(socket.TCP, socket.Listen, "0.0.0.0:81", ""),
		made(socket.TCP, socket.Listen, "127.0.0.1:83", ""),
		made(socket.TCP, socket.Listen, "10.0.0.5:84", ""),
		made(socket.TCP, socket.Listen, "10.0.0.5:90", ""), // whose owner could not be read
		made(socket.TCP, socket.Listen, "0.0.0.0:91", ""),  // likewise
		made(socket.TCP, socket.Listen, "0.0.0.0:23", ""),
		made(socket.UDP, socket.Unconnected, "0.0.0.0:41000", ""), // an ephemeral port that a rule names
		made(socket.UDP, socket.Unconnected, "0.0.0.0:41001", ""), // a client or a service
		made(socket.UDP, socket.Unconnected, "0.0.0.0:5060", ""),  // a service, once it is old enough
	}, ephemeralUDP("[::]", 50000, 5)),
	"connection_owners": slices.Concat(
		[]socket.Socket{
			made(socket.TCP, socket.Listen, "0.0.0.0:443", "", madeIn(1)),
			made(socket.TCP, socket.TimeWait, "10.0.0.5:443", "192.0.2.7:5000"),
			made(socket.TCP, socket.CloseWait, "10.0.0.5:443", "192.0.2.7:5001", madeIn(1)),
			made(socket.TCP, socket.Established, "10.0.0.5:41100", "10.0.0.9:5432", madeIn(2)), // another cgroup of the unit
			made(socket.TCP, socket.SynSent, "10.0.0.5:41101", "10.0.0.9:5432", madeIn(3)),
			made(socket.TCP, socket.Established, "10.0.0.5:41102", "10.0.0.9:25", madeIn(4)), // less busy than others
			made(socket.TCP, socket.Established, "10.0.0.5:41103", "10.0.0.9:80", madeIn(5)), // of a cgroup that was removed
			made(socket.TCP, socket.Established, "10.0.0.5:41104", "10.0.0.9:50000", madeIn(3)),
			made(socket.TCP, socket.Established, "10.0.0.5:41105", "10.0.0.9:80", madeIn(6)), // the same name in a label
			made(socket.TCP, socket.Established, "10.0.0.5:41106", "10.0.0.9:80", madeIn(7)),
		},
		porttest.Times(9, made(socket.TCP, socket.Established, "10.0.0.5:443", "192.0.2.7:5002", madeIn(1))),
		porttest.Times(3, made(socket.TCP, socket.CloseWait, "10.0.0.5:41107", "10.0.0.9:6379", madeIn(3))),
	),
	"firewall": {
		made(socket.TCP, socket.Listen, "0.0.0.0:80", ""),
		made(socket.TCP, socket.Listen, "[::]:443", ""),
		made(socket.UDP, socket.Unconnected, "10.0.0.5:53", ""),
		made(socket.TCP, socket.Listen, "127.0.0.1:9443", ""), // which no rule keeps others from
	},
	"certificates": {
		made(socket.TCP, socket.Listen, "0.0.0.0:443", ""),
		made(socket.TCP, socket.Listen, "[::]:8443", ""),
		made(socket.TCP, socket.Listen, "127.0.0.1:9443", ""),
	},
	"open_connections": storyOpen(),
	"closed": {
		made(socket.TCP, socket.Listen, "0.0.0.0:443", ""),
		made(socket.TCP, socket.Listen, "[::]:22", ""),
		made(socket.TCP, socket.Established, "10.0.0.5:443", "192.0.2.7:50003", withInfo(func(i *socket.TCPInfo) { i.Sent = 7 }), func(s *socket.Socket) { s.Cookie = 99 }),
	},
	"client": slices.Concat(
		clients("10.0.0.5", "198.51.100.1:5432", 900),
		clients("::ffff:10.0.0.5", "198.51.100.2:5432", 400),
		clients("10.0.0.5", "198.51.100.3:5432", 300), // above the share, and beyond the limit
		clients("10.0.0.5", "198.51.100.4:5432", 281), // just below the share
		clients("2001:db8::5", "[2001:db8::9]:443", 2),
		clients("10.0.0.5", "203.0.113.7:80", 3),
		clients("10.0.0.6", "203.0.113.7:80", 1), // from another address, with the same ports
	),
	"hostile_interface_name": {
		made(socket.TCP, socket.Listen, "0.0.0.0:80", "", device("a\"b\\c\nd\xff")),
	},
	"namespaces": {
		made(socket.TCP, socket.Listen, "0.0.0.0:80", ""),
		made(socket.TCP, socket.Established, "10.0.0.5:80", "192.0.2.7:5002"),
	},
	"probes": {
		made(socket.TCP, socket.Listen, "127.0.0.1:80", "", backlog(6, 5, 1)),
		made(socket.TCP, socket.Listen, "0.0.0.0:443", ""),
	},
}

// ephemeralUDP are the sockets of a program on n ephemeral ports.
func ephemeralUDP(address string, first, n int) []socket.Socket {
	var all []socket.Socket
	for i := range n {
		all = append(all, made(socket.UDP, socket.Unconnected, fmt.Sprintf("%s:%d", address, first+i), ""))
	}
	return all
}

// clients are connections from one address to one remote end, some of them in
// TIME_WAIT.
func clients(from, to string, n int) []socket.Socket {
	var all []socket.Socket
	for i := range n {
		state := socket.Established
		if i%3 == 0 {
			state = socket.TimeWait
		}
		local := netip.AddrPortFrom(netip.MustParseAddr(from), uint16(40000+i))
		all = append(all, made(socket.TCP, state, local.String(), to))
	}
	return all
}

// storyWatched are a network, a single destination, and one that is not used.
var storyWatched = Watched{
	Destinations: []socket.Watched{
		{Network: netip.MustParsePrefix("203.0.113.0/24")},
		{Network: netip.MustParsePrefix("2001:db8::9/128"), Ports: []socket.PortRange{{First: 443, Last: 443}}},
		{Network: netip.MustParsePrefix("192.0.2.1/32"), Ports: []socket.PortRange{{First: 25, Last: 25}}},
	},
	Lookups: map[string]bool{"mail.example.com": true, "gone.example.com": false},
}

// storyOwners are the owners of the story of that name: a service on two
// addresses, a group of two programs, an update without a restart, names that
// no label can hold, and one that could not be read.
var storyOwners = owners{
	80: {{Process: "nginx", User: "root", Unit: "nginx.service", PID: 7}},
	81: {{Process: "a", Unit: "a.service"}, {Process: "b", Unit: "b.service", Container: "docker-0123456789ab"}},
	82: {{Process: "redis-server", Deleted: true, PID: 1}, {Process: "redis-server", Deleted: true, Executable: "/other", PID: 2}},
	83: {{Process: "a\"b\\c\n\xff"}, {Process: "a\"b\\c\n\xfe"}},

	50000: {{Process: "browser"}}, 50001: {{Process: "browser"}}, 50002: {{Process: "browser"}}, 50003: {{Process: "browser"}}, 50004: {{Process: "browser"}},
}

// storyPortless are raw and packet sockets, one of a process that the policy knows,
// and one that no rule expects.
func storyPortless(context.Context) (socket.PortlessTable, error) {
	raw := func(address string, protocol uint16) socket.Listener {
		l := socket.Listener{Sockets: 1}
		l.Protocol, l.Address, l.Port = socket.Raw, netip.MustParseAddr(address), protocol
		return l
	}
	packet := func(device string, kind socket.PacketType, filter socket.Filter, sockets int) socket.Listener {
		l := socket.Listener{PacketType: kind, Filter: filter, Sockets: sockets}
		l.Protocol, l.Interface, l.Port = socket.Packet, device, 80 // of nginx, in storyOwners
		return l
	}
	vsock := socket.Listener{Sockets: 1}
	vsock.SetVsock(socket.VsockAddr{CID: 1<<32 - 1, Port: 22})
	unread := map[socket.Protocol]int{socket.Raw: 0, socket.Packet: 0, socket.Vsock: 0}
	return socket.PortlessTable{Unread: unread, Listeners: []socket.Listener{vsock,
		raw("0.0.0.0", 1), raw("::", 58), raw("0.0.0.0", 200),
		packet("eth0", socket.PacketRaw, socket.HasFilter, 2), packet("", socket.PacketOther, socket.FilterUnknown, 1),
	}}, nil
}

// storyPolicy expects nginx, and one of the two programs on port 81. It forbids
// telnet, and has an exception that ended.
var storyPolicy = []policy.Rule{
	{Name: "web", Ports: []socket.PortRange{{First: 80, Last: 80}}, Processes: []string{"nginx"}, Required: true},
	{Name: "required, not verified", Ports: []socket.PortRange{{First: 90, Last: 91}}, Processes: []string{"nginx"}, Required: true},
	{Name: "captures", Protocols: []socket.Protocol{socket.Packet}, Interfaces: []string{""}, Processes: []string{"nginx"}},
	{Name: "pings", Protocols: []socket.Protocol{socket.Raw}, Ports: []socket.PortRange{{First: 1, Last: 58}}},
	{Name: "no telnet", Ports: []socket.PortRange{{First: 23, Last: 23}}, Forbid: true, Severity: policy.SeverityWarning},
	{Name: "exception", Ports: []socket.PortRange{{First: 84, Last: 84}}, Until: time.Unix(0, 0).UTC()},
	{Name: "half of a group", Ports: []socket.PortRange{{First: 81, Last: 81}}, Processes: []string{"a"}},
	{Name: "mosh", Protocols: []socket.Protocol{socket.UDP}, Ports: []socket.PortRange{{First: 41000, Last: 41000}}},
	{Name: "database", Ports: []socket.PortRange{{First: 5432, Last: 5432}}, Required: true},
}

// storyUnix are the unix listeners of a web server, and one that has no queue known.
var storyUnix = map[string]socket.PortlessTable{
	"web_server": unixTable(),
	"procfs":     tableOf(socket.NewUnix(socket.UnixName{Path: "/run/php/php8.2-fpm.sock"}, socket.Member{Inode: 1})),
}

func TestStories(t *testing.T) {
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			o := options(story)
			if strings.HasPrefix(name, "gopsutil") || name == "procfs" {
				o.SourceName = name
			}
			if name == "owners" {
				o.Owners = storyOwners
			}
			if name == "empty" {
				o.KernelStats = func() (*kernel.Stats, error) {
					return &kernel.Stats{}, &kernel.FileError{File: "sys/net/core/somaxconn", Err: fs.ErrPermission}
				}
			}
			if name == "client" {
				o.Watched = func() Watched { return storyWatched }
			}
			if table, there := storyUnix[name]; there {
				o.Unix = func(context.Context) (socket.PortlessTable, error) { return table, nil }
				o.UnixOwners = unixOwners{"php": {Process: "php-fpm", User: "root", Unit: "php8.2-fpm.service"}}
			}
			if name == "web_server" {
				o.AddressKinds = func([]netip.Addr) map[netip.Addr]socket.AddressKind {
					return map[netip.Addr]socket.AddressKind{netip.MustParseAddr("10.0.0.6"): socket.AddressElsewhere}
				}
			}
			if name == "policy" {
				now := time.Unix(1_800_000_000, 0)
				o.Owners, o.Policy = storyOwners, storyPolicy
				o.Portless, o.PortlessOwners = storyPortless, storyOwners
				o.Memory = NewMemory(func() time.Time { return now })
				exposition(t, t.Context(), o, Filter{})
				now = now.Add(longLivedAge)
			}
			if name == "connection_owners" {
				o.Groups = storyGroups
			}
			if name == "firewall" {
				o.Firewall = storyRules
			}
			if name == "namespaces" {
				o.Namespaces, o.NamespaceOwners = storyNamespaces{}, storyOwners
				o.Limits.Namespaces, o.Limits.NamespaceListeners, o.Limits.OutboundPorts = 2, 2, 1
			}
			if name == "certificates" {
				o.Certificates, o.Addresses = storyCertificates, storyAddresses
			}
			if name == "closed" {
				o.Disabled = nil
				o.Closed, o.Watched = storyClosed(t), func() Watched { return Watched{Destinations: []socket.Watched{quietDestination}} }
			}
			if name == "open_connections" {
				o.Disabled, o.Watched = nil, func() Watched { return Watched{Destinations: []socket.Watched{quietDestination}} }
			}
			if name == "probes" {
				o.Probes, o.Addresses = storyProbes, storyAddresses
			}
			whole := exposition(t, t.Context(), o, Filter{})
			porttest.Golden(t, "testdata/"+name+".prom", whole)
			wantListenerInfo(t, New(o), whole)
		})
	}
}

// wantListenerInfo compares the listeners of discovery with those of a scrape.
func wantListenerInfo(t *testing.T, e *Exporter, scraped string) {
	t.Helper()
	info, err := e.ListenerInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	if len(info.GetMetric()) > 0 { // a family without is no text
		if _, err := expfmt.MetricFamilyToText(&told, info); err != nil {
			t.Fatal(err)
		}
	}
	series := func(text string) []string {
		lines := regexp.MustCompile(`(?m)^port_listener_info.*netns="".*`).FindAllString(text, -1)
		slices.Sort(lines)
		return lines
	}
	if diff := cmp.Diff(series(scraped), series(told.String())); diff != "" {
		t.Errorf("-scraped +told:\n%s", diff)
	}
}

func TestPromlint(t *testing.T) {
	for name, story := range stories {
		o := options(story)
		o.Probes, o.Addresses = storyProbes, storyAddresses
		problems, err := testutil.GatherAndLint(checked(t, t.Context(), o, Filter{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
	}
}

func TestListenersBeyondTheLimit(t *testing.T) {
	o := options(porttest.Sockets{
		made(socket.TCP, socket.Listen, "0.0.0.0:80", ""),
		made(socket.TCP, socket.Listen, "0.0.0.0:81", ""),
		made(socket.TCP, socket.Listen, "0.0.0.0:82", ""),
		made(socket.TCP, socket.Established, "10.0.0.5:82", "10.0.0.9:41000"),
	})
	o.Limits.Listeners = 1
	got := exposition(t, t.Context(), o, Filter{})
	for _, want := range []string{
		`port_folded_items{metric="port_listener_info"} 2`,
		`port_inbound_connections{address="other",interface="",netns="",port="other",protocol="tcp",state="established"} 1`,
		`port_sockets{family="ipv4",netns="",protocol="tcp",state="listen"} 3`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("lacks %s in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "port_listener_info{"); n != 1 {
		t.Errorf("%d listeners are told apart, want 1", n)
	}
}

// series counts the samples of a text, comments left out.
func series(text string) int {
	n := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

func TestSeriesStayFlat(t *testing.T) {
	host := func(sockets int) porttest.Sockets {
		var all porttest.Sockets
		for i := range sockets {
			all = append(all,
				made(socket.TCP, socket.Established, fmt.Sprintf("10.0.0.5:%d", 32768+i%28000), fmt.Sprintf("10.%d.0.9:%d", i%250, 1+i%32000)),
				made(socket.TCP, socket.CloseWait, fmt.Sprintf("10.0.0.5:%d", 1+i%32000), "10.0.0.9:40000"))
		}
		return all
	}
	few := series(exposition(t, t.Context(), options(host(10)), Filter{}))
	many := series(exposition(t, t.Context(), options(host(40_000)), Filter{}))
	if few != many {
		t.Errorf("%d series for 20 sockets, %d for 80,000", few, many)
	}
}

// counting is a source that counts its reads.
type counting struct {
	socket.Source
	listening, connections int
}

func (c *counting) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	if want == socket.Listening {
		c.listening++
	} else {
		c.connections++
	}
	return c.Source.Sockets(ctx, want)
}

func TestFilter(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		filter                 Filter
		collectors             int
		listening, connections int
	}{
		{"everything", Filter{}, 6, 1, 1},
		{"with health", Filter{Collectors: []string{"sockets", "connections", "ephemeral", "health"}}, 4, 1, 1},
		{"listeners only", Filter{Collectors: []string{"listeners"}}, 1, 1, 0},
		{"listeners twice", Filter{Collectors: []string{"listeners", "listeners"}}, 1, 1, 0},
		{"connections only", Filter{Collectors: []string{"connections"}}, 1, 1, 1},
		{"limits only", Filter{Collectors: []string{"limits"}}, 1, 0, 0},
		{"a family of the listeners", Filter{Families: []string{"port_listener_info"}}, 1, 1, 0},
		{"all but what walks the connections", Filter{Excluded: []string{"sockets", "connections", "owners", "ephemeral"}}, 2, 1, 0},
		{"all but one that there is not", Filter{Excluded: []string{"nope"}}, 6, 1, 1},
		{"all but all", Filter{Excluded: Names()}, 0, 0, 0},
		{"a family that is left out", Filter{Excluded: []string{"listeners"}, Families: []string{"port_listener_info"}}, 0, 0, 0},
		{"a family of another exporter", Filter{Families: []string{"go_goroutines"}}, 0, 0, 0},
		{"a family outside the collector", Filter{Collectors: []string{"listeners"}, Families: []string{"port_sockets"}}, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := &counting{Source: stories["web_server"]}
			o := options(source)
			if slices.Contains(tt.filter.Collectors, healthName) {
				o.Disabled = nil
			}
			got := exposition(t, t.Context(), o, tt.filter)
			if n := strings.Count(got, "port_scrape_collector_success{"); n != tt.collectors {
				t.Errorf("%d collectors ran, want %d", n, tt.collectors)
			}
			if source.listening != tt.listening || source.connections != tt.connections {
				t.Errorf("%d reads of listeners and %d of connections, want %d and %d",
					source.listening, source.connections, tt.listening, tt.connections)
			}
		})
	}
}

func TestUnknownFamily(t *testing.T) {
	e := New(options(porttest.Sockets{}))
	for _, name := range []string{"", "nope", "port_socket", "port_sockets "} {
		_, err := e.Scrape(t.Context(), Filter{Families: []string{"port_sockets", name}})
		if unknown, ok := errors.AsType[*UnknownFamilyError](err); !ok || unknown.Name != name {
			t.Errorf("name[]=%s: %v", name, err)
		}
	}
	for _, name := range []string{"port_listener_info", "port_netns_info", "port_config_targets", "port_scrape_collector_success", "probe_success", "probe_of_the_future", "go_goroutines", "promhttp_metric_handler_requests_total"} {
		if _, err := e.Scrape(t.Context(), Filter{Families: []string{name}}); err != nil {
			t.Errorf("name[]=%s: %v", name, err)
		}
	}
}

func TestUnknownCollector(t *testing.T) {
	o := options(porttest.Sockets{})
	o.Disabled = []string{"connections"}
	for _, name := range []string{"nope", "", "connections"} {
		_, err := New(o).Scrape(t.Context(), Filter{Collectors: []string{"listeners", name}})
		var unknown *UnknownCollectorError
		if !errors.As(err, &unknown) || unknown.Name != name || !strings.Contains(err.Error(), "sockets, listeners") {
			t.Errorf("collect[]=%s: %v", name, err)
		}
	}
	if got := exposition(t, t.Context(), o, Filter{}); strings.Contains(got, `collector="connections"`) {
		t.Error("a disabled collector ran")
	}
}

// TestCollectorWithoutAnythingToTell may be asked for: a job of Prometheus that
// names it has hosts with targets or a policy, and hosts without.
func TestCollectorWithoutAnythingToTell(t *testing.T) {
	for _, name := range []string{"probes", "policy", "certificates", "firewall"} {
		got := exposition(t, t.Context(), options(porttest.Sockets{}), Filter{Collectors: []string{"sockets", name}})
		if !strings.Contains(got, `collector="sockets"} 1`) || strings.Contains(got, fmt.Sprintf("collector=%q", name)) {
			t.Errorf("collect[]=%s:\n%s", name, got)
		}
	}
}

// broken is a source whose reads of some states end with an error.
type broken struct {
	socket.Source
	states socket.StateSet
	errs   []error // one for each read, the last one again and again
}

func (b *broken) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	if want != b.states {
		return b.Source.Sockets(ctx, want)
	}
	err := b.errs[0]
	if len(b.errs) > 1 {
		b.errs = b.errs[1:]
	}
	return func(yield func(*socket.Socket, error) bool) {
		for s, none := range b.Source.Sockets(ctx, want) {
			if !yield(s, none) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func TestFailedCollectorLeavesOthersWhole(t *testing.T) {
	var log bytes.Buffer
	o := options(&broken{stories["web_server"], socket.Connections, []error{errors.New("netlink is tired")}})
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	got := exposition(t, t.Context(), o, Filter{})
	for want, n := range map[string]int{
		`port_scrape_collector_success{collector="listeners"} 1`:   1,
		`port_scrape_collector_success{collector="connections"} 0`: 1,
		`port_scrape_collector_success{collector="sockets"} 0`:     1,
		`port_scrape_collector_success{collector="ephemeral"} 0`:   1,
		`port_scrape_collector_success{collector="limits"} 1`:      1,
		"port_listener_info{":       7,
		"port_inbound_connections{": 0,
		"port_sockets{":             0,
		`port_folded_items{`:        2,
	} {
		if strings.Count(got, want) != n {
			t.Errorf("%s stands %d times, want %d", want, strings.Count(got, want), n)
		}
	}
	if !strings.Contains(log.String(), "netlink is tired") {
		t.Errorf("the cause is not logged: %s", log.String())
	}
}

func TestInterruptedRead(t *testing.T) {
	interrupted := fmt.Errorf("dump: %w", socket.ErrInterrupted)
	for _, tt := range []struct {
		name    string
		errs    []error
		counted int
	}{
		{"once", []error{interrupted, nil}, 0},
		{"twice", []error{interrupted, interrupted}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := exposition(t, t.Context(), options(&broken{stories["crashed_service"], socket.Connections, tt.errs}), Filter{})
			for _, want := range []string{
				fmt.Sprintf("port_source_interrupted_reads_total %d", tt.counted),
				`port_scrape_collector_success{collector="connections"} 1`,
				`port_orphaned_connections{netns="",port="8080",protocol="tcp",state="close_wait"} 1`,
			} {
				if !strings.Contains(got, want+"\n") {
					t.Errorf("lacks %s in\n%s", want, got)
				}
			}
		})
	}
}

func TestMalformedRowsAreCounted(t *testing.T) {
	bad := fmt.Errorf("%w: line 3", socket.ErrMalformed)
	o := options(&broken{stories["web_server"], socket.Listening, []error{bad}})
	for scrapes := range 2 {
		if got, want := exposition(t, t.Context(), o, Filter{}), fmt.Sprintf("port_source_malformed_rows_total %d\n", scrapes+1); !strings.Contains(got, want) {
			t.Errorf("lacks %s", want)
		}
	}
}

// stuck is a source that never answers and does not heed its context.
type stuck struct{ release chan struct{} }

func (s stuck) Sockets(context.Context, socket.StateSet) iter.Seq2[*socket.Socket, error] {
	<-s.release
	return func(func(*socket.Socket, error) bool) {}
}

func TestStuckCollectorIsLeftBehind(t *testing.T) {
	source := stuck{make(chan struct{})}
	defer close(source.release)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := New(options(source)).ListenerInfo(ctx); !errors.Is(err, context.DeadlineExceeded) { // or the test hangs
		t.Errorf("for discovery: %v", err)
	}
	got := exposition(t, ctx, options(source), Filter{})
	for _, name := range []string{"sockets", "listeners", "connections", "owners", "ephemeral"} {
		if want := fmt.Sprintf("port_scrape_collector_success{collector=%q} 0\n", name); !strings.Contains(got, want) {
			t.Errorf("lacks %s in\n%s", want, got)
		}
	}
}

// TestNoRoom has scrapes leave collectors behind until there is no room for more: then
// a scrape is an error, and no exposition that lacks families.
func TestNoRoom(t *testing.T) {
	source := stuck{make(chan struct{})}
	o := options(source)
	o.MaxScrapes = 1
	e := New(o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	gather := func() ([]*dto.MetricFamily, error) {
		s, err := e.Scrape(ctx, Filter{})
		if err != nil {
			t.Fatal(err)
		}
		return s.Gather()
	}
	var err error
	for range 100 {
		if _, err = gather(); err != nil {
			break
		}
	}
	busy, ok := errors.AsType[*BusyError](err)
	if !ok || busy.Running < len(e.collectors) {
		t.Fatalf("%v", err)
	}
	for range busy.Running + 1 { // those that are refused take no room
		_, _ = gather()
	}
	close(source.release)
	ctx = t.Context()
	porttest.Await(t, "room", func() bool { _, err := gather(); return err == nil })
}

// TestFailuresAreLoggedOnce has four collectors fail in scrape after scrape, for the
// same reason.
func TestFailuresAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	tired := errors.New("netlink is tired")
	source := &broken{stories["web_server"], socket.Listening, []error{tired}}
	o := options(source)
	o.Memory, o.Logger = NewMemory(func() time.Time { return now }), slog.New(slog.NewTextHandler(&log, nil))
	lines := func() []string { return strings.Split(strings.TrimSpace(log.String()), "\n") }
	for range 10 {
		exposition(t, t.Context(), o, Filter{})
	}
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], `collectors="sockets, listeners, connections, owners, ephemeral"`) || strings.Count(got[0], "tired") != 1 {
		t.Errorf("%d lines:\n%s", len(got), log.String())
	}
	now = now.Add(remindEvery)
	exposition(t, t.Context(), o, Filter{})
	if got := lines(); len(got) != 2 || !strings.Contains(got[1], " repeats=45") {
		t.Errorf("after a while, %d lines:\n%s", len(got), log.String())
	}
	source.errs = []error{nil}
	exposition(t, t.Context(), o, Filter{})
	source.errs = []error{tired}
	exposition(t, t.Context(), o, Filter{})
	if got := lines(); len(got) != 3 {
		t.Errorf("failing anew, %d lines:\n%s", len(got), log.String())
	}
}

// busy are owners that nobody has time to look for.
type busy struct{ owners }

func (b busy) Owners(ctx context.Context, listeners []socket.Listener) owner.Result {
	r := b.owners.Owners(ctx, listeners)
	r.Busy = true
	return r
}

// TestPendingOwners has a listener whose owner does not come in time, beside one
// that is known: only the first has no verdict.
func TestPendingOwners(t *testing.T) {
	o := options(porttest.Sockets{made(socket.TCP, socket.Listen, "0.0.0.0:80", ""), made(socket.TCP, socket.Listen, "0.0.0.0:22", ""), made(socket.TCP, socket.Listen, "0.0.0.0:666", "")})
	o.Owners = busy{owners{22: {{Process: "sshd", User: "root", PID: 1}}, 80: {{User: "root", Pending: true}}, 666: {{Process: "nc", User: "root", PID: 2}}}}
	o.Policy = []policy.Rule{{Name: "web", Processes: []string{"nginx"}, Required: true}, {Name: "ssh", Processes: []string{"sshd"}, Required: true}}
	got := exposition(t, t.Context(), o, Filter{})
	for _, want := range []string{
		`port_scrape_collector_success{collector="policy"} 1`,
		`port_policy_missing_listener{rule="web"} 0`,
		`port_policy_missing_listener{rule="ssh"} 0`,
		`port_policy_unverified_listeners{netns="",scope="any"} 1`,
		`port_policy_unexpected_listeners{netns="",scope="any"} 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("lacks %s in\n%s", want, got)
		}
	}
}

// TestBusyOwners has a scrape without owners, and an error for discovery.
func TestBusyOwners(t *testing.T) {
	o := options(stories["web_server"])
	o.Owners = busy{}
	if got, want := exposition(t, t.Context(), o, Filter{}), `port_scrape_collector_success{collector="listeners"} 1`; !strings.Contains(got, want) {
		t.Errorf("lacks %s", want)
	}
	if info, err := New(o).ListenerInfo(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("for discovery: %v, %v", info, err)
	}
}

// TestLimitDecidesNoVerdict has more listeners than have series: what a rule
// requires is there, what none expects is counted, and UDP takes no place of TCP.
func TestLimitDecidesNoVerdict(t *testing.T) {
	var all porttest.Sockets
	for i := range 50 {
		all = append(all, made(socket.UDP, socket.Unconnected, fmt.Sprintf("0.0.0.0:%d", 100+i), ""))
	}
	all = append(all, made(socket.TCP, socket.Listen, "127.0.0.1:22", ""), made(socket.TCP, socket.Listen, "127.0.0.1:8443", ""))
	o := options(all)
	o.Limits.Listeners = 8
	o.Policy = []policy.Rule{
		{Name: "rtp", Protocols: []socket.Protocol{socket.UDP}, Ports: []socket.PortRange{{First: 101, Last: 200}}},
		{Name: "ssh", Ports: []socket.PortRange{{First: 22, Last: 22}}, Required: true},
	}
	got := exposition(t, t.Context(), o, Filter{})
	for _, want := range []string{
		`port_policy_missing_listener{rule="ssh"} 0`,
		`port_policy_unexpected_listeners{netns="",scope="loopback"} 1`,
		`port_policy_unexpected_listeners{netns="",scope="any"} 1`,
		`port_policy_rule_listeners{rule="rtp"} 49`,
		`port_listener_sockets{address="127.0.0.1",interface="",netns="",port="22",protocol="tcp"} 1`,
		`port_folded_items{metric="port_listener_info"} 44`,
		`port_listener_changes_total{change="opened",netns="",protocol="udp"} 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("lacks %s in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\nport_listener_info{"); n != 8 {
		t.Errorf("%d series of port_listener_info, want 8", n)
	}
}

// TestUnreadIsNoVerdict has more listeners than are read: what a rule requires may
// be among them.
func TestUnreadIsNoVerdict(t *testing.T) {
	var all porttest.Sockets
	for i := range 1<<15 + 3 {
		all = append(all, made(socket.TCP, socket.Listen, fmt.Sprintf("127.1.%d.%d:80", i>>8, i&0xff), ""))
	}
	o := options(all)
	o.Policy = []policy.Rule{
		{Name: "web", Ports: []socket.PortRange{{First: 80, Last: 80}}, Required: true},
		{Name: "ssh", Ports: []socket.PortRange{{First: 22, Last: 22}}, Required: true},
	}
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"policy", "listeners"}})
	for want, there := range map[string]bool{
		`port_policy_missing_listener{rule="web"} 0`:                     true,
		`port_policy_missing_listener{rule="ssh"}`:                       false,
		`port_listener_sockets_unread{netns="",protocol="tcp"} 3` + "\n": true,
		`port_listener_sockets_unread{netns="",protocol="udp"} 0` + "\n": true,
	} {
		if strings.Contains(got, want) != there {
			t.Errorf("%s: want it there: %t", want, there)
		}
	}
}

// TestUnknownAgesAreNoVerdict has more young UDP sockets than are remembered: the
// required one may be among the others, of which nothing will ever be known. Rules
// of other protocols have their verdict.
func TestUnknownAgesAreNoVerdict(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	o := options(nil)
	o.Memory = NewMemory(func() time.Time { return now })
	var all porttest.Sockets
	for i := range longLivedLimit + 5 {
		s := made(socket.UDP, socket.Unconnected, fmt.Sprintf("127.1.%d.%d:40000", i>>8, i&0xff), "")
		s.Cookie = uint64(i + 1)
		all = append(all, s)
	}
	o.Source = all
	o.Policy = []policy.Rule{
		{Name: "game", Protocols: []socket.Protocol{socket.UDP}, Ports: []socket.PortRange{{First: 40001, Last: 40002}}, Required: true},
		{Name: "ssh", Protocols: []socket.Protocol{socket.TCP}, Ports: []socket.PortRange{{First: 22, Last: 22}}, Required: true},
	}
	for range 2 { // young, then old
		got := exposition(t, t.Context(), o, Filter{Collectors: []string{"policy", "listeners"}})
		for want, there := range map[string]bool{
			`port_policy_missing_listener{rule="game"}`:                      false,
			`port_policy_missing_listener{rule="ssh"} 1`:                     true,
			`port_listener_sockets_unread{netns="",protocol="udp"} 5` + "\n": true,
			`port_listener_sockets_unread{netns="",protocol="tcp"} 0` + "\n": true,
		} {
			if strings.Contains(got, want) != there {
				t.Errorf("%s: want it there: %t", want, there)
			}
		}
		now = now.Add(longLivedAge)
	}
}

// TestPortlessIsNoVerdict has raw and packet sockets that were not all read: those
// of one protocol leave rules of another their verdict.
func TestPortlessIsNoVerdict(t *testing.T) {
	rule := func(p socket.Protocol) policy.Rule {
		return policy.Rule{Name: p.String(), Protocols: []socket.Protocol{p}, Required: true}
	}
	o := options(porttest.Sockets{})
	o.Policy = []policy.Rule{rule(socket.Raw), rule(socket.Packet), rule(socket.Vsock)}
	o.PortlessOwners = owners{}
	for name, tt := range map[string]struct {
		table   socket.PortlessTable
		missing string // the rules that have the verdict
		unread  map[string]string
	}{
		"all was read":  {socket.PortlessTable{Unread: map[socket.Protocol]int{socket.Raw: 0, socket.Packet: 0, socket.Vsock: 0}}, "raw packet vsock", map[string]string{"raw": "0", "vsock": "0"}},
		"beyond limits": {socket.PortlessTable{Unread: map[socket.Protocol]int{socket.Raw: 0, socket.Packet: 7, socket.Vsock: 0}, Malformed: 2}, "raw vsock", map[string]string{"packet": "7"}},
		"not reported":  {socket.PortlessTable{Unread: map[socket.Protocol]int{socket.Raw: 0, socket.Packet: 0}}, "raw packet", map[string]string{"vsock": ""}},
		"interrupted": {socket.PortlessTable{Unread: map[socket.Protocol]int{socket.Raw: 0, socket.Packet: 0, socket.Vsock: 0},
			Interrupted: []socket.Protocol{socket.Packet}}, "raw vsock", nil},
	} {
		o.Memory = NewMemory(time.Now)
		o.Portless = func(context.Context) (socket.PortlessTable, error) { return tt.table, nil }
		got := exposition(t, t.Context(), o, Filter{Collectors: []string{"policy", "portless"}})
		for _, p := range socket.Portless() {
			want := strings.Contains(tt.missing, p.String())
			if strings.Contains(got, `port_policy_missing_listener{rule="`+p.String()+`"} 1`) != want {
				t.Errorf("%s: rule %s has a verdict: want %t", name, p, want)
			}
			if strings.Contains(got, `port_policy_rule_listeners{rule="`+p.String()+`"} 0`) != want {
				t.Errorf("%s: rule %s is stale: want %t", name, p, want)
			}
			read := fmt.Sprintf(`port_portless_read{netns="",protocol=%q} %v`, p, truth(tt.table.Has(p)))
			if !strings.Contains(got, read) {
				t.Errorf("%s: lacks %s", name, read)
			}
		}
		for p, n := range tt.unread {
			if want := fmt.Sprintf(`port_listener_sockets_unread{netns="",protocol=%q} %s`, p, n); strings.Contains(got, want) != (n != "") {
				t.Errorf("%s: want %s", name, want)
			}
		}
		for family, n := range map[string]int{"port_source_malformed_rows_total": tt.table.Malformed, "port_source_interrupted_reads_total": len(tt.table.Interrupted)} {
			if want := fmt.Sprintf("\n%s %d\n", family, n); !strings.Contains(got, want) {
				t.Errorf("%s: lacks %s", name, want)
			}
		}
	}
}

// TestChangingPortsAreOne has a client that has another ephemeral port each ten
// minutes: after a few of them it has one series, which stays.
func TestChangingPortsAreOne(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	o := options(nil)
	o.Memory = NewMemory(func() time.Time { return now })
	o.Owners = owners{}
	for i := range 24 {
		port := uint16(50000 + i/2)
		o.Source = porttest.Sockets(ephemeralUDP("0.0.0.0", int(port), 1))
		o.Owners.(owners)[port] = []socket.Owner{{Process: "vpn"}}
		got := exposition(t, t.Context(), o, Filter{})
		if i%2 == 1 && i >= 10 && !strings.Contains(got, `port_listener_sockets{address="0.0.0.0",interface="",netns="",port="ephemeral",protocol="udp"} 1`+"\n") {
			t.Errorf("scrape %d:\n%s", i, got)
		}
		if !strings.Contains(got, `port_listener_changes_total{change="opened",netns="",protocol="udp"} 0`+"\n") {
			t.Errorf("scrape %d: a client counts as a listener that was opened", i)
		}
		now = now.Add(longLivedAge)
	}
}

func TestLongLivedUDPBecomesListener(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	o := options(porttest.Sockets{made(socket.UDP, socket.Unconnected, "0.0.0.0:41000", "", func(s *socket.Socket) { s.Cookie = 5 })})
	o.Memory = NewMemory(func() time.Time { return now })
	const info = `port_listener_info{`
	if got := exposition(t, t.Context(), o, Filter{}); strings.Contains(got, info) {
		t.Error("at first sight it is a listener")
	}
	now = now.Add(longLivedAge)
	if got := exposition(t, t.Context(), o, Filter{}); !strings.Contains(got, info) {
		t.Error("five minutes later it is still a client")
	}
}

// Without the range the default separates clients from services, but is not exported
// how much is left of it.
func TestUnknownEphemeralRange(t *testing.T) {
	others := Filter{Collectors: []string{"sockets", "listeners", "connections"}}
	for _, tt := range []struct {
		err     error
		success string
	}{
		{fs.ErrPermission, "0"},
		{&kernel.FileError{File: "sys/net/ipv4/ip_local_port_range", Err: fs.ErrPermission}, "1"},
		{fmt.Errorf("open: %w", fs.ErrNotExist), "1"},
	} {
		o := options(stories["web_server"])
		known := o.EphemeralPorts
		want := exposition(t, t.Context(), o, others)
		o.EphemeralPorts = func() (socket.EphemeralPorts, error) {
			r, _ := known()
			return r, tt.err
		}
		if got := exposition(t, t.Context(), o, others); got != want {
			t.Error("with the default range the scrape differs")
		}
		got := exposition(t, t.Context(), o, Filter{Collectors: []string{"ephemeral"}})
		if strings.Contains(got, "port_ephemeral_") || !strings.Contains(got, `port_scrape_collector_success{collector="ephemeral"} `+tt.success+"\n") {
			t.Errorf("%v:\n%s", tt.err, got)
		}
	}
}

// A watched destination is exported when it fills up, whatever else is, and
// each is exported once.
func TestWatchedNetworkIsFull(t *testing.T) {
	var all porttest.Sockets
	for i := range 150 {
		all = append(all, clients("10.0.0.5", fmt.Sprintf("203.0.113.%d:80", i), 1+i/140)...)
	}
	all = append(all, clients("10.0.0.5", "203.0.113.200:8443", 900)...)
	all = append(all, clients("10.0.0.5", "203.0.113.201:8443", 5)...)
	o := options(all)
	network := netip.MustParsePrefix("203.0.113.0/24")
	single := func(address string) socket.Watched {
		return socket.Watched{Network: netip.MustParsePrefix(address + "/32"), Ports: []socket.PortRange{{First: 8443, Last: 8443}}}
	}
	o.Watched = func() Watched {
		return Watched{Destinations: []socket.Watched{{Network: network}, single("203.0.113.201"), single("203.0.113.201"), single("192.0.2.1"), {Network: network}}}
	}
	o.Limits.WatchedDestinations = 5
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"ephemeral"}})
	told := func(text string) []string {
		var all []string
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, `port_ephemeral_destination_ports_used{netns="",remote_address=`); ok {
				all = append(all, strings.TrimSpace(rest))
			}
		}
		return all
	}
	want := []string{
		`"192.0.2.1",remote_port="8443"} 0`,                                                                                     // one by one
		`"203.0.113.140",remote_port="80"} 2`, `"203.0.113.141",remote_port="80"} 2`, `"203.0.113.200",remote_port="8443"} 900`, // three of the network
		`"203.0.113.201",remote_port="8443"} 5`, // one by one
	}
	if diff := cmp.Diff(want, told(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	o.Limits.WatchedDestinations = 1 // the first one by one; and one that uses much, watched or not
	few := exposition(t, t.Context(), o, Filter{Collectors: []string{"ephemeral"}})
	if diff := cmp.Diff([]string{`"203.0.113.200",remote_port="8443"} 900`, `"203.0.113.201",remote_port="8443"} 5`}, told(few)); diff != "" {
		t.Errorf("with room for one watched (-want +got):\n%s", diff)
	}
	if folded := `port_folded_items{metric="port_ephemeral_destination_ports_used"} 148`; !strings.Contains(got, folded+"\n") {
		t.Errorf("lacks %s in\n%s", folded, got)
	}
}

// TestUnreadableFiles has files that cannot be read: each is exported and logged
// once, and costs no more than its own figures.
func TestUnreadableFiles(t *testing.T) {
	var log bytes.Buffer
	o := options(stories["web_server"])
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	unreadable := func(file string) error { return &kernel.FileError{File: file, Err: fs.ErrPermission} }
	o.KernelStats = func() (*kernel.Stats, error) {
		return kernelStats(), errors.Join(unreadable("net/sockstat"), unreadable("sys/net/core/somaxconn"))
	}
	o.Unix = func(context.Context) (socket.PortlessTable, error) {
		return socket.PortlessTable{}, unreadable("net/unix")
	}
	exposition(t, t.Context(), o, Filter{})
	got := exposition(t, t.Context(), o, Filter{})
	for _, want := range []string{
		`port_scrape_collector_success{collector="limits"} 1`, `port_scrape_collector_success{collector="unix"} 1`,
		`port_unreadable_files{file="net/sockstat"} 1`, `port_unreadable_files{file="sys/net/core/somaxconn"} 1`,
		`port_unreadable_files{file="net/unix"} 1`, `port_listener_info{`, `port_tcp_listen_overflows_total{`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %s", want)
		}
	}
	if n := strings.Count(log.String(), "cannot read file"); n != 3 {
		t.Errorf("logged %d times:\n%s", n, &log)
	}
}

func TestUnreadableKernelStats(t *testing.T) {
	o := options(stories["web_server"])
	o.KernelStats = func() (*kernel.Stats, error) { return nil, fs.ErrPermission }
	got := exposition(t, t.Context(), o, Filter{})
	if strings.Contains(got, "port_somaxconn") || !strings.Contains(got, `port_scrape_collector_success{collector="limits"} 0`+"\n") ||
		!strings.Contains(got, `port_scrape_collector_success{collector="connections"} 1`+"\n") {
		t.Errorf("got\n%s", got)
	}
}

// The choice of ports outlives a scrape, and the exporter that a reload replaces.
func TestChoiceIsStable(t *testing.T) {
	o := options(nil)
	o.Limits.OutboundPorts = 1
	for _, busy := range []struct{ eighty, eightyOne int }{{4, 3}, {4, 5}, {3, 4}} {
		o.Source = porttest.Sockets(slices.Concat(clients("10.0.0.5", "10.0.0.9:80", busy.eighty), clients("10.0.0.6", "10.0.0.9:81", busy.eightyOne)))
		if got := exposition(t, t.Context(), o, Filter{}); !strings.Contains(got, `port_outbound_connections{netns="",protocol="tcp",remote_port="80",state="established"}`) {
			t.Errorf("%+v: port 80 lost its series:\n%s", busy, got)
		}
	}
}

func TestBothWays(t *testing.T) {
	_, err := New(options(porttest.Sockets{})).Scrape(t.Context(), Filter{Collectors: []string{"sockets"}, Excluded: []string{"limits"}})
	if !errors.Is(err, errBothWays) {
		t.Errorf("collect[] and exclude[] together: %v", err)
	}
}

// TestYoungIsNotMissing has a service that is required, on a UDP socket that was not
// seen for long enough to be called one.
func TestYoungIsNotMissing(t *testing.T) {
	o := options(porttest.Sockets{made(socket.UDP, socket.Unconnected, "0.0.0.0:20000", "")})
	ports := []socket.PortRange{{First: 19000, Last: 21000}}
	o.Policy = []policy.Rule{
		{Name: "vpn", Protocols: []socket.Protocol{socket.UDP}, Ports: ports, Processes: []string{"vpn"}, Required: true},
		{Name: "web", Protocols: []socket.Protocol{socket.TCP}, Ports: ports, Required: true},
	}
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"policy"}})
	if strings.Contains(got, `port_policy_missing_listener{rule="vpn"}`) || !strings.Contains(got, `port_policy_missing_listener{rule="web"} 1`) {
		t.Errorf("the service that may be there, or the one that is not:\n%s", got)
	}
}
