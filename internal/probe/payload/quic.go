package payload

import (
	"bytes"
	"encoding/binary"
)

// quicMessage provokes a version negotiation, RFC 9000 section 6: a long header
// with a version that is reserved for this (0x?a?a?a?a, section 15). A server
// answers only datagrams that are as long as a first one must be, and keeps no
// state of it.
func quicMessage(f flow) Message {
	const (
		length   = 1200 // section 14.1
		idLen    = 8
		longForm = 0x80
		fixedBit = 0x40
	)
	destination, source := f.random[:idLen], f.random[idLen:2*idLen]
	version := binary.BigEndian.Uint32(f.random[2*idLen:])&0xf0f0f0f0 | 0x0a0a0a0a

	request := append(make([]byte, 0, length), longForm|fixedBit)
	request = binary.BigEndian.AppendUint32(request, version)
	request = append(append(request, idLen), destination...)
	request = append(append(request, idLen), source...)
	request = request[:length]

	// Section 17.2.1: version 0, and the connection ids change places.
	head := append([]byte{0, 0, 0, 0, idLen}, source...)
	head = append(append(head, idLen), destination...)
	return Message{request, func(reply []byte) error {
		if len(reply) == 0 || reply[0]&longForm == 0 || !bytes.HasPrefix(reply[1:], head) {
			return notOurs("not a QUIC version negotiation with our connection ids")
		}
		versions := reply[1+len(head):]
		if len(versions) == 0 || len(versions)%4 != 0 {
			return notOurs("a QUIC version negotiation without versions")
		}
		return nil
	}}
}
