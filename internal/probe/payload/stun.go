package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// This file is the part of STUN that a probe needs: a binding request with the
// two attributes that it may have, and what the response reports. RFC 8489, and
// RFC 5780 for the behaviour of NATs. It performs no I/O and takes any bytes.

// Numbers of RFC 8489 sections 5 and 14, and RFC 5780 section 7.
const (
	stunHeaderLen = 20
	stunCookie    = 0x2112A442

	stunBindingRequest = 0x0001
	stunBindingSuccess = 0x0101
	stunBindingError   = 0x0111

	stunMappedAddress    = 0x0001
	stunChangeRequest    = 0x0003
	stunErrorCode        = 0x0009
	stunXORMappedAddress = 0x0020
	stunOtherAddress     = 0x802c
)

// STUNTransaction is the id that a response repeats.
type STUNTransaction [12]byte

// STUNChange is what a server is asked to change before it answers.
type STUNChange uint32

// The changes, RFC 5780 section 7.2.
const (
	STUNChangeNothing STUNChange = 0
	STUNChangePort    STUNChange = 0x2
	STUNChangeAddress STUNChange = 0x4
)

// STUNResponse is what a response says.
type STUNResponse struct {
	Transaction STUNTransaction
	// Code is the number of an error response (400), 0 of a success.
	Code   int
	Mapped netip.AddrPort // how the server sees us; valid unless code is set
	Other  netip.AddrPort // the zero value where the server has no second address
}

var (
	// ErrNotSTUN says that a datagram is no answer to a binding request.
	ErrNotSTUN      = errors.New("not a STUN response")
	errSTUNMapping  = errors.New("stun: no mapped address in the response")
	errSTUNTooShort = fmt.Errorf("%w: truncated", ErrNotSTUN)
)

// STUNRequest makes a binding request.
func STUNRequest(id STUNTransaction, change STUNChange) []byte {
	b := binary.BigEndian.AppendUint16(nil, stunBindingRequest)
	length := uint16(0)
	if change != STUNChangeNothing {
		length = 8
	}
	b = binary.BigEndian.AppendUint16(b, length)
	b = binary.BigEndian.AppendUint32(b, stunCookie)
	b = append(b, id[:]...)
	if change != STUNChangeNothing {
		b = binary.BigEndian.AppendUint16(b, stunChangeRequest)
		b = binary.BigEndian.AppendUint16(b, 4)
		b = binary.BigEndian.AppendUint32(b, uint32(change))
	}
	return b
}

// ParseSTUN reads a response to a binding request. Attributes that it does not
// know are discarded: what they would add is not needed.
func ParseSTUN(b []byte) (STUNResponse, error) {
	if len(b) < stunHeaderLen {
		return STUNResponse{}, errSTUNTooShort
	}
	kind, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case kind != stunBindingSuccess && kind != stunBindingError:
		return STUNResponse{}, fmt.Errorf("%w: message type %#04x", ErrNotSTUN, kind)
	case binary.BigEndian.Uint32(b[4:]) != stunCookie:
		return STUNResponse{}, fmt.Errorf("%w: no magic cookie", ErrNotSTUN)
	case length%4 != 0 || length != len(b)-stunHeaderLen:
		return STUNResponse{}, fmt.Errorf("%w: a length of %d in %d bytes", ErrNotSTUN, length, len(b))
	}
	r := STUNResponse{Transaction: STUNTransaction(b[8:stunHeaderLen])}
	if err := r.attributes(b[stunHeaderLen:]); err != nil {
		return STUNResponse{}, err
	}
	switch {
	case kind == stunBindingError && r.Code == 0:
		return STUNResponse{}, fmt.Errorf("%w: an error without a code", ErrNotSTUN)
	case kind == stunBindingSuccess && !r.Mapped.IsValid():
		return STUNResponse{}, errSTUNMapping
	case kind == stunBindingSuccess:
		r.Code = 0
	}
	return r, nil
}

// attributes reads the attributes, of which the first of a kind counts.
func (r *STUNResponse) attributes(b []byte) error {
	var plain, xored netip.AddrPort
	for len(b) > 0 {
		if len(b) < 4 {
			return errSTUNTooShort
		}
		kind, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		padded := (length + 3) &^ 3
		if padded > len(b)-4 {
			return errSTUNTooShort
		}
		value := b[4 : 4+length]
		b = b[4+padded:]

		var err error
		switch kind {
		case stunMappedAddress:
			err = keepFirst(&plain, value, nil)
		case stunXORMappedAddress:
			err = keepFirst(&xored, value, &r.Transaction)
		case stunOtherAddress:
			err = keepFirst(&r.Other, value, nil)
		case stunErrorCode:
			if len(value) >= 4 && r.Code == 0 {
				r.Code = int(value[2]&7)*100 + int(value[3])
			}
		}
		if err != nil {
			return err
		}
	}
	r.Mapped = xored
	if !xored.IsValid() {
		r.Mapped = plain // a server of RFC 3489 has no other
	}
	return nil
}

// keepFirst reads an address into a place that has none yet.
func keepFirst(into *netip.AddrPort, value []byte, xor *STUNTransaction) error {
	if into.IsValid() {
		return nil
	}
	address, err := stunAddress(value, xor)
	if err == nil {
		*into = address
	}
	return err
}

// stunAddress reads an address attribute, RFC 8489 sections 14.1 and 14.2. With
// xor it was masked with the cookie and the transaction id, so that a NAT which
// rewrites addresses in payloads does not find it.
func stunAddress(value []byte, xor *STUNTransaction) (netip.AddrPort, error) {
	const ipv4, ipv6 = 1, 2
	if len(value) < 4 {
		return netip.AddrPort{}, errSTUNTooShort
	}
	var mask [16]byte
	if xor != nil {
		binary.BigEndian.PutUint32(mask[:], stunCookie)
		copy(mask[4:], xor[:])
	}
	port := binary.BigEndian.Uint16(value[2:]) ^ binary.BigEndian.Uint16(mask[:])
	raw := make([]byte, len(value)-4)
	for i, b := range value[4:] {
		raw[i] = b ^ mask[i%len(mask)]
	}
	address, ok := netip.AddrFromSlice(raw)
	if !ok || (value[1] == ipv4) != address.Is4() || (value[1] == ipv6) != address.Is6() {
		return netip.AddrPort{}, fmt.Errorf("%w: address family %d in %d bytes", ErrNotSTUN, value[1], len(value))
	}
	return netip.AddrPortFrom(address.Unmap(), port), nil
}

// stunMessage is a binding request as a payload of the udp prober.
func stunMessage(f flow) Message {
	id := STUNTransaction(f.random[:12])
	return Message{STUNRequest(id, STUNChangeNothing), func(reply []byte) error {
		response, err := ParseSTUN(reply)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", errNotOurs, err)
		case response.Transaction != id:
			return notOurs("another STUN transaction")
		}
		return nil
	}}
}
