// Package payload has datagrams by name, and recognizes the replies to them.
// It performs no I/O.
package payload

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxPayload is the largest datagram of UDP over IPv4: 65,535 bytes less the
// headers of IP (20) and UDP (8).
const maxPayload = 65507

// errNotOurs is why a reply is not one to what was sent.
var errNotOurs = errors.New("not a reply to the payload")

// Payload is what a datagram holds, and how the reply to it is known. Its zero
// value is an empty datagram.
//
// The named payloads ask what any server of the protocol answers without a
// secret and without being changed, and they put random bytes into what the
// protocol makes the server repeat. Their replies are short, so that they lend
// nobody an amplifier.
type Payload struct {
	name   string
	build  builder // nil where bytes are sent as they are
	Static []byte
}

// flow is what a payload may put into its bytes.
type flow struct {
	local, remote netip.AddrPort
	// random is fresh for each probe. Datagrams of a probe that are sent again
	// are the same, so a reply to either is one to both.
	random [32]byte
}

// Message is a payload made for one flow.
type Message struct {
	Request []byte
	// Check returns an error that wraps errNotOurs when a datagram is no reply
	// to the request. Nil accepts everything.
	Check func(reply []byte) error
}

type builder func(flow) Message

// named are the payloads, in the order in which they are listed.
func named() []Payload {
	return []Payload{
		{name: "dns", build: dnsMessage},
		{name: "ntp", build: ntpMessage},
		{name: "quic", build: quicMessage},
		{name: "sip", build: sipMessage},
		{name: "snmp", build: snmpMessage},
		{name: "stun", build: stunMessage},
	}
}

// Names returns the names that [Parse] knows, sorted.
func Names() []string {
	var names []string
	for _, p := range named() {
		names = append(names, p.name)
	}
	return names
}

// Parse returns the payload of a name, or of bytes written as hex:c0ffee
// (blanks between the digits are allowed) or base64:wP/u. An empty text is an
// empty datagram.
func Parse(text string) (Payload, error) {
	if text == "" {
		return Payload{}, nil
	}
	for _, p := range named() {
		if p.name == text {
			return p, nil
		}
	}
	bytes, err := literal(text)
	if err != nil {
		return Payload{}, err
	}
	if len(bytes) > maxPayload {
		return Payload{}, fmt.Errorf("payload of %d bytes: a datagram holds %d at most", len(bytes), maxPayload)
	}
	kind, _, _ := strings.Cut(text, ":")
	return Payload{name: kind, Static: bytes}, nil
}

func literal(text string) ([]byte, error) {
	kind, digits, _ := strings.Cut(text, ":")
	switch kind {
	case "hex":
		bytes, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
		return bytes, nil
	case "base64":
		bytes, err := base64.StdEncoding.DecodeString(digits)
		if err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
		return bytes, nil
	}
	return nil, fmt.Errorf("unknown payload %q\none of %s, hex:DIGITS, base64:TEXT", text, strings.Join(Names(), ", "))
}

// String returns the name of the payload: dns, hex, base64; empty for the
// empty datagram.
func (p Payload) String() string { return p.name }

// Message makes the payload for a flow.
func (p Payload) Message(local, remote netip.AddrPort) Message {
	if p.build == nil {
		return Message{Request: p.Static}
	}
	f := flow{local: local, remote: remote}
	_, _ = rand.Read(f.random[:]) // never fails: it ends the program instead
	return p.build(f)
}

// notOurs says what is wrong with a reply.
func notOurs(what string) error { return fmt.Errorf("%w: %s", errNotOurs, what) }
