package payload

import (
	"bytes"
	"encoding/binary"
)

// dnsHeaderLen is the length of a header, RFC 1035 section 4.1.1.
const dnsHeaderLen = 12

// dnsMessage asks for the name servers of the root, which is what a resolver
// asks when it starts (RFC 8109) and has in its cache. A server that does not
// want to answer refuses, and that is a reply too: what the answer says is the
// matter of the dns prober.
func dnsMessage(f flow) Message {
	const (
		recursionDesired = 0x0100
		typeNS           = 2
		classIN          = 1
	)
	question := []byte{0, 0, typeNS, 0, classIN} // the root's name is an empty label
	query := make([]byte, dnsHeaderLen, dnsHeaderLen+len(question))
	copy(query, f.random[:2])
	binary.BigEndian.PutUint16(query[2:], recursionDesired)
	binary.BigEndian.PutUint16(query[4:], 1) // QDCOUNT
	query = append(query, question...)
	return Message{query, func(reply []byte) error { return checkDNS(query, reply) }}
}

// checkDNS wants the id, and the question where it is repeated: a server that
// could not read the query answers with a header alone.
func checkDNS(query, reply []byte) error {
	const response, opcode = 0x80, 0x78
	switch {
	case len(reply) < dnsHeaderLen:
		return notOurs("shorter than a DNS header")
	case !bytes.Equal(reply[:2], query[:2]):
		return notOurs("another DNS id")
	case reply[2]&response == 0:
		return notOurs("a DNS query")
	case reply[2]&opcode != 0:
		return notOurs("another DNS opcode")
	}
	switch binary.BigEndian.Uint16(reply[4:]) {
	case 0:
		return nil
	case 1:
		if bytes.HasPrefix(reply[dnsHeaderLen:], query[dnsHeaderLen:]) {
			return nil
		}
	}
	return notOurs("another DNS question")
}
