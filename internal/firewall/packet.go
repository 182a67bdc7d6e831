package firewall

import (
	"encoding/binary"
	"strings"
)

// Numbers of include/uapi/linux/netfilter/nf_tables.h, and what they ask for.
const (
	metaProtocol = 1
	metaIIF      = 4
	metaOIF      = 5
	metaIIFName  = 6
	metaOIFName  = 7
	metaNFProto  = 15
	metaL4Proto  = 16
	metaPktType  = 19

	ctState     = 0
	ctDirection = 1
	ctStatus    = 2

	fibAddressType = 3
	fibSource      = 1
	fibDestination = 2
	fibPresent     = 0x20
)

// States of conntrack as nftables has them, and bits of a connection's status.
const (
	stateInvalid     = 1
	stateEstablished = 2
	stateNew         = 8

	statusTranslated = 0x20 // IPS_DST_NAT
)

// typeLocal is RTN_LOCAL, and typeUnicast RTN_UNICAST, of rtnetlink.h.
const (
	typeUnicast = 1
	typeLocal   = 2
)

// Protocols of IP.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// tracked is the priority at which conntrack knows a packet (NF_IP_PRI_CONNTRACK).
const tracked = -200

// packet is one packet of a connection, at one hook.
type packet struct {
	v6       bool
	protocol byte
	incoming bool // at a hook of arriving packets
	fromPeer bool // the other end is its source
	reply    bool // a packet of the one that was asked
	state    uint32
	tcpFlags byte
	// local reports that the connection does not leave this host, elsewhere that it does;
	// neither is known of some.
	local, elsewhere bool
}

// piece is a part of the value of a register.
type piece struct {
	dim    dim
	length int
	offset int    // in the dim
	value  string // of fixed
	known  string // the bits of value that are known
	mask   string // the bits of the dim that are left; empty is all
	index  bool   // of device: its number, not its name
}

func known(value string) piece {
	return piece{dim: fixed, length: len(value), value: value, known: strings.Repeat("\xff", len(value))}
}

func partly(value, known string) piece {
	return piece{dim: fixed, length: len(value), value: value, known: known}
}

// isKnown reports whether a piece has one value, with all of its bits.
func (p piece) isKnown() bool { return p.dim == fixed && strings.ReplaceAll(p.known, "\xff", "") == "" }

// isBeginning reports whether a piece is the first bytes of a dim as they are.
func (p piece) isBeginning() bool {
	return p.dim < numDims && p.offset == 0 && p.mask == "" && !p.index
}

func obscure(length int) []piece { return []piece{{dim: opaque, length: length}} }

func whole(d dim, length int) []piece { return []piece{{dim: d, length: length}} }

// addressLength returns the size of an address of the packet.
func (p *packet) addressLength() int {
	if p.v6 {
		return 16
	}
	return 4
}

// ends returns which dims the source and the destination of the packet are.
func (p *packet) ends() (srcAddr, dstAddr, srcPort, dstPort dim) {
	if p.fromPeer {
		return peerAddress, ownAddress, peerPort, ownPort
	}
	return ownAddress, peerAddress, ownPort, peerPort
}

// load returns what an expression loads of the packet at a hook.
func (p *packet) load(e *expr, at *chain, untracked bool) []piece {
	switch e.source {
	case fromMeta:
		return p.loadMeta(e)
	case fromConntrack:
		return p.loadConntrack(e, at, untracked)
	case fromRoutes:
		return p.loadRoutes(e)
	case fromNetworkHeader:
		return cut(p.networkHeader(), e.offset, e.length)
	case fromTransportHeader:
		return cut(p.transportHeader(), e.offset, e.length)
	default:
		return obscure(max(e.length, 4))
	}
}

func (p *packet) loadMeta(e *expr) []piece {
	switch {
	case e.key == metaProtocol && p.v6:
		return []piece{known("\x86\xdd")}
	case e.key == metaProtocol:
		return []piece{known("\x08\x00")}
	case e.key == metaNFProto:
		return []piece{known(string([]byte{byte(familyOf(p.v6))}))}
	case e.key == metaL4Proto:
		return []piece{known(string([]byte{p.protocol}))}
	case e.key == metaPktType:
		return []piece{known("\x00")} // PACKET_HOST
	case e.key == metaIIFName && p.incoming, e.key == metaOIFName && !p.incoming:
		return whole(device, deviceLength)
	case e.key == metaIIF && p.incoming, e.key == metaOIF && !p.incoming:
		return []piece{{dim: device, length: 4, index: true}}
	case e.key == metaIIFName, e.key == metaOIFName: // the hook has no such device
		return []piece{known(deviceValue(""))}
	case e.key == metaIIF, e.key == metaOIF:
		return []piece{known(native(0))}
	default:
		return obscure(4)
	}
}

// loadConntrack returns the state: without conntrack, before it has seen the packet, that is
// invalid (nft_ct_get_eval in net/netfilter/nft_ct.c).
func (p *packet) loadConntrack(e *expr, at *chain, untracked bool) []piece {
	early := !at.isTracked()
	switch {
	case at.priority == tracked || untracked:
		return obscure(4)
	case e.key == ctState && early:
		return []piece{known(native(stateInvalid))}
	case e.key == ctState:
		return []piece{known(native(p.state))}
	case early:
		return obscure(4)
	case e.key == ctDirection && p.reply:
		return []piece{known("\x01")}
	case e.key == ctDirection:
		return []piece{known("\x00")}
	case e.key == ctStatus: // a connection that is translated is not followed further
		return []piece{partly(native(0), native(statusTranslated))}
	default:
		return obscure(4)
	}
}

// loadRoutes assumes of the other end what is true of an honest one: its address is a
// host's, and the way back is the interface it came from.
func (p *packet) loadRoutes(e *expr) []piece {
	ofPeer := e.flags&fibSource != 0 && p.fromPeer || e.flags&fibDestination != 0 && !p.fromPeer
	switch {
	case e.key == fibAddressType && (p.local || !ofPeer):
		return []piece{known(native(typeLocal))}
	case e.key == fibAddressType && p.elsewhere:
		return []piece{known(native(typeUnicast))}
	case e.flags&fibPresent != 0 && p.incoming && ofPeer:
		return []piece{known("\x01")}
	default:
		return obscure(4)
	}
}

// networkHeader returns the fields that are known or that a rule may ask for.
func (p *packet) networkHeader() []piece {
	src, dst, _, _ := p.ends()
	if p.v6 {
		return []piece{
			{dim: opaque, length: 6}, known(string([]byte{p.protocol})), {dim: opaque, length: 1},
			{dim: src, length: 16}, {dim: dst, length: 16},
		}
	}
	return []piece{
		{dim: opaque, length: 6}, partly("\x00\x00", "\xbf\xff"), // no fragment
		{dim: opaque, length: 1}, known(string([]byte{p.protocol})), {dim: opaque, length: 2},
		{dim: src, length: 4}, {dim: dst, length: 4},
	}
}

func (p *packet) transportHeader() []piece {
	_, _, src, dst := p.ends()
	header := []piece{{dim: src, length: 2}, {dim: dst, length: 2}}
	if p.protocol == protocolTCP {
		// ECN may set the two highest flags of a SYN.
		header = append(header, piece{dim: opaque, length: 9}, partly(string([]byte{p.tcpFlags}), "\x3f"))
	}
	return header
}

// cut returns some bytes of a value; what is not there is opaque.
func cut(all []piece, offset, length int) (out []piece) {
	for _, p := range all {
		if length == 0 {
			break
		}
		if offset >= p.length {
			offset -= p.length
			continue
		}
		n := min(p.length-offset, length)
		out = append(out, p.slice(offset, n))
		length -= n
		offset = 0
	}
	if length > 0 {
		out = append(out, piece{dim: opaque, length: length})
	}
	return out
}

// slice returns n bytes of a piece.
func (p piece) slice(offset, n int) piece {
	if p.index && (offset > 0 || n < p.length) {
		return piece{dim: opaque, length: n}
	}
	if p.dim == fixed {
		p.value, p.known = p.value[offset:offset+n], p.known[offset:offset+n]
	}
	if p.mask != "" {
		p.mask = p.mask[offset : offset+n]
	}
	p.offset += offset
	p.length = n
	return p
}

// number returns a value that the kernel has in its own byte order.
func number(data string) (uint32, bool) {
	if len(data) != 4 {
		return 0, false
	}
	return binary.NativeEndian.Uint32([]byte(data)), true
}

// isTracked reports whether conntrack has seen the packets of a chain.
func (c *chain) isTracked() bool {
	return c.hook == hookInput || c.hook == hookPostrouting || c.priority > tracked && (c.hook == hookPrerouting || c.hook == hookOutput)
}
