package payload

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Numbers of RFC 7296 section 3.
const (
	ikeHeaderLen   = 28
	ikeExchangeAt  = 18
	ikeLengthAt    = 24
	ikeSAInit      = 34
	ikePayloadSA   = 33
	ikePayloadKE   = 34
	ikePayloadNi   = 40
	ikeNATPort     = 4500
	ikeCurve25519  = 31 // RFC 8031
	ikeResponse    = 0x20
	ikeInitiator   = 0x08
	ikeMarkerLen   = 4 // the non-ESP marker of port 4500, RFC 3948 section 2.2
	ikeVersion2    = 0x20
	ikeV1Informing = 5 // RFC 2408 section 3.1
)

// ikeMessage begins an IKE_SA_INIT exchange. A responder that takes none of the
// proposal says so (NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD); one that takes it
// keeps half an association until its own timeout, 30 seconds as a rule.
func ikeMessage(f flow) Message {
	spi, public, nonce := f.random[:8], f.random[8:40], f.random[40:72]
	key := append([]byte{0, ikeCurve25519, 0, 0}, public...)
	body := ikePayload(ikePayloadKE, ikeProposal())
	body = append(body, ikePayload(ikePayloadNi, key)...)
	body = append(body, ikePayload(0, nonce)...)

	var marker []byte
	if f.remote.Port() == ikeNATPort {
		marker = make([]byte, ikeMarkerLen)
	}
	responder := make([]byte, 8) // its SPI is not known yet
	kind := []byte{ikePayloadSA, ikeVersion2, ikeSAInit, ikeInitiator, 0, 0, 0, 0}
	length := binary.BigEndian.AppendUint32(nil, uint32(ikeHeaderLen+len(body)))
	request := slices.Concat(marker, spi, responder, kind, length, body)
	return Message{request, func(reply []byte) error {
		rest, ok := bytes.CutPrefix(reply, marker)
		if !ok {
			return notOurs("no non-ESP marker")
		}
		return checkIKE(spi, rest)
	}}
}

// checkIKE wants the answer to IKE_SA_INIT, or the notification with which a
// peer that knows only version 1 complains.
func checkIKE(spi, reply []byte) error {
	switch {
	case len(reply) < ikeHeaderLen:
		return notOurs("shorter than an IKE header")
	case !bytes.Equal(reply[:8], spi):
		return notOurs("another IKE SPI")
	case binary.BigEndian.Uint32(reply[ikeLengthAt:]) != uint32(len(reply)):
		return notOurs("an IKE message of another length")
	}
	exchange, flags := reply[ikeExchangeAt], reply[ikeExchangeAt+1]
	switch reply[ikeExchangeAt-1] >> 4 {
	case 2:
		if exchange == ikeSAInit && flags&ikeResponse != 0 {
			return nil
		}
	case 1:
		if exchange == ikeV1Informing {
			return nil
		}
	}
	return notOurs("not a response to IKE_SA_INIT")
}

// ikeProposal is one proposal of what most responders are set up with.
func ikeProposal() []byte {
	type transform struct {
		kind    byte
		id      byte
		keyBits uint16
	}
	transforms := []transform{
		{1, 12, 256}, {1, 12, 128}, // encryption: AES-CBC
		{2, 5, 0}, {2, 2, 0}, // PRF: HMAC-SHA2-256, HMAC-SHA1
		{3, 12, 0}, {3, 2, 0}, // integrity: HMAC-SHA2-256-128, HMAC-SHA1-96
		{4, ikeCurve25519, 0}, {4, 19, 0}, {4, 14, 0}, // groups: Curve25519, P-256, 2048-bit MODP
	}
	const more, protocolIKE = 3, 1
	var list []byte
	for i, t := range transforms {
		next, length := byte(more), byte(8)
		if i == len(transforms)-1 {
			next = 0
		}
		if t.keyBits > 0 {
			length = 12
		}
		list = append(list, next, 0, 0, length, t.kind, 0, 0, t.id)
		if t.keyBits > 0 {
			list = append(list, 0x80, 14, byte(t.keyBits>>8), byte(t.keyBits)) // attribute "key length"
		}
	}
	head := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(8+len(list)))
	return append(append(head, 1, protocolIKE, 0, byte(len(transforms))), list...)
}

// ikePayload puts the generic header of section 3.2 before a payload.
func ikePayload(next byte, body []byte) []byte {
	head := binary.BigEndian.AppendUint16([]byte{next, 0}, uint16(4+len(body)))
	return append(head, body...)
}
