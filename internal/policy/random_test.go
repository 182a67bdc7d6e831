package policy

import (
	"math/rand/v2"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// chaos makes random values out of small sets, so that they meet often.
type chaos struct{ *rand.Rand }

func newChaos(seed uint64) chaos { return chaos{rand.New(rand.NewPCG(seed, 1))} }

func pick[T any](c chaos, from ...T) T { return from[c.IntN(len(from))] }

// some returns up to three elements, often none.
func some[T any](c chaos, from ...T) []T {
	var out []T
	for range max(0, c.IntN(6)-2) {
		out = append(out, pick(c, from...))
	}
	return out
}

func (c chaos) listener() socket.Owned {
	var l socket.Owned
	l.Netns = pick(c, "", "", "blue", "docker-0123456789ab")
	l.Protocol = pick(c, socket.Protocols()...)
	l.Address = netip.MustParseAddr(pick(c, "0.0.0.0", "::", "127.0.0.1", "::1", "10.0.0.1", "10.200.0.1", "192.0.2.1", "fe80::1", "2001:db8::1", "224.0.0.1"))
	l.Scope = socket.ScopeOf(l.Address)
	l.Port = pick[uint16](c, 1, 22, 80, 81, 82, 83, 443, 32767, 32768, 40000, 40001, 65535)
	l.Ephemeral = l.Port >= 32768 && l.Port <= 60999
	l.Interface = pick(c, "", "", "", "eth0", "wg0")
	if c.IntN(5) == 0 {
		path := pick(c, "/run/a.sock", "/run/b.sock", "@a", "/run/*", "/tmp/x-1234abcd/y", "/run/two\nlines\xff")
		l = socket.Owned{Listener: socket.NewUnix(socket.UnixName{Path: path, Abstract: path[0] == '@'}, socket.Member{})}
	}
	if c.IntN(4) > 0 {
		l.Owner = c.owner()
	}
	return l
}

func (c chaos) owner() socket.Owner {
	return socket.Owner{
		Process:    pick(c, "", "sshd", "nginx", "python3", "*", `a\b?`, "new\nline", "\xff\xfe", "é", "a/b", "ü\x00"),
		Executable: pick(c, "", "/usr/sbin/sshd", "/usr/sbin/nginx", "/usr/bin/python3.12", "/opt/*/bin", "/o/\xff"),
		Deleted:    c.IntN(4) == 0,
		User:       pick(c, "", "root", "www-data", "1000"),
		UserID:     pick(c, "", "0", "33", "1000"),
		Unit:       pick(c, "", "ssh.service", "nginx.service", "session-7.scope", "session-8.scope", "run-u1.service", "docker-0123456789abcdef.scope", "ssh@3-10.0.0.1:22-10.0.0.2:5.service"),
		Container:  pick(c, "", "", "docker-0123456789ab", "docker-ba9876543210", "podaaaa-bbbb/containerd-0123456789ab", "weird*one"),
		PID:        c.Int32(),
	}
}

func (c chaos) listeners() []socket.Owned {
	out := make([]socket.Owned, c.IntN(60))
	for i := range out {
		out[i] = c.listener()
	}
	return out
}

func (c chaos) rule() Rule {
	var r Rule
	r.Name = pick(c, "", "", "", "a", "b")
	r.Protocols = some(c, append(socket.Protocols(), socket.Unix)...)
	r.Paths = some(c, "/run/*", "/run/?.sock", "/**", "@*", "/run/a.sock")
	for range max(0, c.IntN(6)-2) {
		low := pick[uint16](c, 1, 22, 80, 443, 32768)
		r.Ports = append(r.Ports, socket.PortRange{First: low, Last: pick(c, low, low, low+1, low+10, 65535)})
	}
	r.Ephemeral = c.IntN(5) == 0
	for _, text := range some(c, "0.0.0.0/32", "::/128", "127.0.0.0/8", "127.0.0.1/32", "::1/128", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "0.0.0.0/0", "::/0", "fe80::/10", "2001:db8::/32", "192.0.0.0/8", "224.0.0.0/4") {
		r.Addresses = append(r.Addresses, netip.MustParsePrefix(text))
	}
	r.Scopes = some(c, socket.Scopes()...)
	r.Interfaces = some(c, "", "*", "?*", "eth0", "eth*")
	r.Netns = some(c, "", "*", "blue", "docker-*")
	r.Processes = some(c, "*", "?*", "sshd", "s*", "*d", "nginx", "??", "python*")
	r.Executables = some(c, "/**", "/usr/**", "/usr/*/*", "/usr/sbin/*", "/usr/sbin/nginx", "**/nginx")
	r.Users = some(c, "*", "root", "www-*")
	r.Units = some(c, "*.service", "*", "ssh*", "session-*.scope")
	r.Containers = some(c, "*", "docker-*", "pod*/containerd-*")
	r.Required = c.IntN(3) == 0
	r.Forbid = !r.Required && c.IntN(4) == 0
	if c.IntN(4) == 0 {
		r.Until = day(pick(c, 28, 29, 30))
	}
	return r
}

// rules returns rules that often differ in little.
func (c chaos) rules() []Rule {
	out := make([]Rule, c.IntN(12))
	for i := range out {
		out[i] = c.rule()
		if i > 0 && c.IntN(2) == 0 {
			one := out[i]
			out[i] = out[c.IntN(i)]
			switch c.IntN(6) {
			case 0:
				out[i].Processes = one.Processes
			case 1:
				out[i].Ports, out[i].Ephemeral = one.Ports, one.Ephemeral
			case 2:
				out[i].Addresses = one.Addresses
			case 3:
				out[i].Scopes = one.Scopes
			case 4:
				out[i].Executables, out[i].Netns = one.Executables, one.Netns
			default:
				out[i].Name = one.Name
			}
		}
	}
	return out
}
