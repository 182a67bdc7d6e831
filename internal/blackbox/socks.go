package blackbox

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
)

// Values of SOCKS5: RFC 1928, sections 3 to 6, and RFC 1929.
const (
	socksVersion  = 5
	socksPassword = 2 // the method
	socksConnect  = 1
	socksIPv4     = 1
	socksName     = 3
	socksIPv6     = 4
	socksGranted  = 0
	socksFailure  = 1
)

func reply(code byte) []byte {
	return []byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0}
}

var errSOCKS = errors.New("blackbox: not what net/http says over SOCKS5")

// greet has a client show the password, and returns its user name and where it
// wants to go.
func greet(c io.ReadWriter, password string) (user, to string, err error) {
	if _, err := readCounted(c, socksVersion); err != nil { // its methods
		return "", "", err
	}
	if _, err := c.Write([]byte{socksVersion, socksPassword}); err != nil {
		return "", "", err
	}
	if user, err = readCounted(c, 1); err != nil {
		return "", "", err
	}
	shown, err := readText(c)
	if err != nil {
		return "", "", err
	}
	if shown != password {
		return "", "", errSOCKS
	}
	if _, err := c.Write([]byte{1, 0}); err != nil {
		return "", "", err
	}
	to, err = readDestination(c)
	return user, to, err
}

// readCounted reads a byte that must be so, a length and as many bytes.
func readCounted(c io.Reader, first byte) (string, error) {
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return "", err
	}
	if b[0] != first {
		return "", errSOCKS
	}
	return readText(c)
}

func readText(c io.Reader) (string, error) {
	var b [256]byte
	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return "", err
	}
	text := b[1 : 1+int(b[0])]
	_, err := io.ReadFull(c, text)
	return string(text), err
}

func readDestination(c io.Reader) (string, error) {
	var b [4]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return "", err
	}
	if b[0] != socksVersion || b[1] != socksConnect {
		return "", errSOCKS
	}
	host, err := readHost(c, b[3])
	if err != nil {
		return "", err
	}
	var port [2]byte
	if _, err := io.ReadFull(c, port[:]); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port[:])))), nil
}

func readHost(c io.Reader, kind byte) (string, error) {
	var b [16]byte
	addr := b[:4]
	switch kind {
	case socksName:
		return readText(c)
	case socksIPv6:
		addr = b[:16]
	case socksIPv4:
	default:
		return "", errSOCKS
	}
	if _, err := io.ReadFull(c, addr); err != nil {
		return "", err
	}
	a, _ := netip.AddrFromSlice(addr)
	return a.String(), nil
}
