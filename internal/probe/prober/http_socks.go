package prober

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// Values of SOCKS5: RFC 1928, sections 3 to 6, and RFC 1929.
const (
	socksVersion      = 5
	socksNoPassword   = 0 // methods
	socksPassword     = 2
	socksPasswordSent = 1 // version of RFC 1929
	socksConnect      = 1
	socksIPv4         = 1
	socksName         = 3
	socksIPv6         = 4
	socksGranted      = 0
)

// connectSOCKS asks a SOCKS5 proxy for a connection.
func connectSOCKS(c io.ReadWriter, user *url.Userinfo, to string) error {
	if err := authenticateSOCKS(c, user); err != nil {
		return err
	}
	request, err := socksRequest(to)
	if err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if head[0] != socksVersion {
		return errNoSOCKS()
	}
	if head[1] != socksGranted {
		return refusalOfSOCKS(head[1])
	}
	return skipAddress(c, head[3])
}

// maxSOCKSText is how long a user and a password may be, in bytes: RFC 1929, section 2.
const maxSOCKSText = 255

// checkSOCKSUser finds a user or password that a SOCKS proxy cannot be sent.
func checkSOCKSUser(proxy *url.URL) error {
	if password, _ := proxy.User.Password(); len(password) > maxSOCKSText || len(proxy.User.Username()) > maxSOCKSText {
		return fmt.Errorf("the proxy %s: its user or password has more than %d bytes, which SOCKS5 does not take", proxy.Host, maxSOCKSText)
	}
	return nil
}

func errNoSOCKS() error {
	return &probe.ProxyError{Outcome: probe.Protocol, Text: "does not speak SOCKS5"}
}

// authenticateSOCKS agrees on a method, and sends user and password if there are
// any.
func authenticateSOCKS(c io.ReadWriter, user *url.Userinfo) error {
	hello := []byte{socksVersion, 1, socksNoPassword}
	if user != nil {
		hello = []byte{socksVersion, 2, socksNoPassword, socksPassword}
	}
	if _, err := c.Write(hello); err != nil {
		return err
	}
	var answer [2]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	switch {
	case answer[0] != socksVersion:
		return errNoSOCKS()
	case answer[1] == socksNoPassword:
		return nil
	case answer[1] != socksPassword || user == nil:
		return &probe.ProxyError{Outcome: probe.Status, Text: "accepts no way to log in that the module has"}
	}
	password, _ := user.Password()
	login := append([]byte{socksPasswordSent, byte(len(user.Username()))}, user.Username()...)
	login = append(append(login, byte(len(password))), password...)
	if _, err := c.Write(login); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	if answer[1] != socksGranted {
		return &probe.ProxyError{Outcome: probe.Status, Text: "rejects user or password"}
	}
	return nil
}

func socksRequest(to string) ([]byte, error) {
	host, service, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return nil, err
	}
	request := []byte{socksVersion, socksConnect, 0}
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && addr.Unmap().Is4():
		request = append(request, socksIPv4)
		request = append(request, addr.Unmap().AsSlice()...)
	case err == nil:
		request = append(request, socksIPv6)
		request = append(request, addr.AsSlice()...)
	case len(host) > 255:
		return nil, fmt.Errorf("the name %s is too long for SOCKS", host)
	default:
		request = append(request, socksName, byte(len(host)))
		request = append(request, host...)
	}
	return binary.BigEndian.AppendUint16(request, uint16(port)), nil
}

// refusalOfSOCKS says what a reply means: RFC 1928, section 6.
func refusalOfSOCKS(code byte) error {
	switch code {
	case 2:
		return &probe.ProxyError{Outcome: probe.Prohibited, Text: "answers that its rules do not allow the target"}
	case 3:
		return &probe.ProxyError{Outcome: probe.Unreachable, Text: "answers that the target's network cannot be reached"}
	case 4:
		return &probe.ProxyError{Outcome: probe.Unreachable, Text: "answers that the target cannot be reached"}
	case 5:
		return &probe.ProxyError{Outcome: probe.Refused, Text: "answers that the target refuses the connection"}
	case 6:
		return &probe.ProxyError{Outcome: probe.Unreachable, Text: "answers that the TTL ran out on the way to the target"}
	default:
		return &probe.ProxyError{Outcome: probe.Status, Text: fmt.Sprintf("answers with SOCKS error %d", code)}
	}
}

// skipAddress reads the address that the proxy connects from, with its port.
func skipAddress(c io.Reader, kind byte) error {
	var b [256 + 2]byte
	n := 0
	switch kind {
	case socksIPv4:
		n = 4
	case socksIPv6:
		n = 16
	case socksName:
		if _, err := io.ReadFull(c, b[:1]); err != nil {
			return err
		}
		n = int(b[0])
	default:
		return errNoSOCKS()
	}
	_, err := io.ReadFull(c, b[:n+2])
	return err
}
