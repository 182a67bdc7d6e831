package payload

import (
	"encoding/binary"
	"slices"
)

// Tags of the Basic Encoding Rules, X.690, and of the protocols that use them.
const (
	berInteger  = 0x02
	berOctets   = 0x04
	berSequence = 0x30

	snmpGet    = 0xa0 // [0] of RFC 3416
	snmpReport = 0xa8 // [8]
)

// snmpMessage is the discovery of RFC 3414 section 4: a request without user
// and engine, which every agent that speaks version 3 answers with a report
// that has its engine id. An agent that speaks only the older versions wants a
// community and keeps silent without the right one.
func snmpMessage(f flow) Message {
	const version3, userSecurity, reportable, maxSize = 3, 3, 0x04, 65507
	id := messageID(f)
	security := ber(berSequence,
		ber(berOctets), berInt(0), berInt(0), // engine id, boots, time
		ber(berOctets), ber(berOctets), ber(berOctets)) // user, authentication, privacy
	request := ber(berSequence,
		berInt(version3),
		ber(berSequence, berInt(id), berInt(maxSize), ber(berOctets, []byte{reportable}), berInt(userSecurity)),
		ber(berOctets, security),
		ber(berSequence,
			ber(berOctets), ber(berOctets), // context engine id, context name
			ber(snmpGet, berInt(id), berInt(0), berInt(0), ber(berSequence))))
	return Message{request, func(reply []byte) error { return checkSNMP(id, reply) }}
}

// checkSNMP wants a message of version 3 with our id and a report in it.
func checkSNMP(id int32, reply []byte) error {
	outer := berReader{bytes: reply}
	all := outer.enter(berSequence)
	version := all.enter(berInteger)
	header := all.enter(berSequence)
	gotID := header.enter(berInteger)
	security := all.enter(berOctets)
	parameters := security.enter(berSequence)
	engine := parameters.enter(berOctets)
	scoped := all.enter(berSequence)
	scoped.enter(berOctets)
	scoped.enter(berOctets)
	report := scoped.enter(snmpReport)
	switch {
	case report.failed || engine.failed:
		return notOurs("not an SNMP report")
	case version.integer() != 3:
		return notOurs("another SNMP version")
	case gotID.integer() != int64(id):
		return notOurs("another SNMP message id")
	case len(engine.bytes) == 0:
		return notOurs("an SNMP report without engine id")
	}
	return nil
}

// messageID is random, positive and never short of its full length, so that a
// message has the same length whatever it is.
func messageID(f flow) int32 {
	return int32(binary.BigEndian.Uint32(f.random[:])&0x3fffffff | 0x40000000)
}

// ber encodes a value of a tag from its parts.
func ber(tag byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	if len(body) < 0x80 {
		return append([]byte{tag, byte(len(body))}, body...)
	}
	return append([]byte{tag, 0x82, byte(len(body) >> 8), byte(len(body))}, body...)
}

// berInt encodes an integer that is not negative in as few bytes as it takes.
func berInt(v int32) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(v))
	for len(b) > 1 && b[0] == 0 && b[1] < 0x80 {
		b = b[1:]
	}
	return ber(berInteger, b)
}

// berReader reads elements one after the other. Once something is not there,
// it and all that was to be inside have failed.
type berReader struct {
	bytes  []byte
	failed bool
}

// enter takes the next element, which must have a tag, and returns its
// contents. It takes every length that BER allows, in up to four bytes: agents
// write them longer than they need to be.
func (r *berReader) enter(tag byte) berReader {
	if r.failed || len(r.bytes) < 2 || r.bytes[0] != tag {
		r.failed = true
		return berReader{failed: true}
	}
	length, rest := uint64(r.bytes[1]), r.bytes[2:]
	if length >= 0x80 {
		n := int(length & 0x7f)
		if n == 0 || n > 4 || n > len(rest) {
			r.failed = true
			return berReader{failed: true}
		}
		length = 0
		for _, b := range rest[:n] {
			length = length<<8 | uint64(b)
		}
		rest = rest[n:]
	}
	if length > uint64(len(rest)) {
		r.failed = true
		return berReader{failed: true}
	}
	r.bytes = rest[length:]
	return berReader{bytes: rest[:length]}
}

// integer returns the contents of an INTEGER, -1 where they are none that fits.
func (r berReader) integer() int64 {
	if r.failed || len(r.bytes) == 0 || len(r.bytes) > 8 {
		return -1
	}
	v := int64(int8(r.bytes[0]))
	for _, b := range r.bytes[1:] {
		v = v<<8 | int64(b)
	}
	return v
}
