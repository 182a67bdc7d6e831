package firewall

import (
	"encoding/binary"
	"math"
	"net"

	"github.com/google/nftables/xt"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// decodeXtables returns what a match or a target of xtables does, as iptables-nft makes
// them.
func decodeXtables(kind string, family Family, data []byte) []expr {
	name, revision, info := "", uint32(0), []byte(nil)
	err := decode(data, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() { // NFTA_MATCH_* and NFTA_TARGET_* are the same
		case unix.NFTA_MATCH_NAME:
			name = ad.String()
		case unix.NFTA_MATCH_REV:
			revision = ad.Uint32()
		case unix.NFTA_MATCH_INFO:
			info = ad.Bytes()
		}
	})
	var exprs []expr
	switch {
	case err != nil:
		exprs = []expr{{}}
	case kind == "match":
		exprs = []expr{decodeMatch(name, family, revision, info)}
	default:
		exprs = decodeTarget(name, family, revision, info)
	}
	for i := range exprs {
		exprs[i].name = name
	}
	return exprs
}

// decodeMatch returns a condition; one that is not understood may match.
func decodeMatch(name string, family Family, revision uint32, info []byte) expr {
	switch name {
	case "comment":
		return expr{kind: nothing}
	case "statistic":
		return expr{kind: byChance}
	case "rt", "ah", "esp", "hbh", "dst", "mh", "ipv6header", "frag":
		return expr{kind: match, never: true} // a header that an ordinary packet does not have
	case "multiport":
		return decodeMultiport(revision, info)
	case "state":
		if len(info) >= 4 {
			return stateMatch(binary.NativeEndian.Uint32(info), false)
		}
	}
	decoded, err := xt.Unmarshal(name, xt.TableFamily(family), revision, info)
	if err != nil {
		return expr{kind: mayMatch}
	}
	switch m := decoded.(type) {
	case *xt.Tcp:
		return decodeTCP(m)
	case *xt.Udp:
		conditions := portCondition(peerPort, m.SrcPorts, m.InvFlags&xt.UdpInvSrcPorts != 0)
		return expr{kind: match, conditions: append(conditions, portCondition(ownPort, m.DstPorts, m.InvFlags&xt.UdpInvDestPorts != 0)...)}
	case *xt.AddrType:
		if m.InvertSource || m.InvertDest {
			return expr{kind: mayMatch}
		}
		return expr{kind: match, srcTypes: m.Source, dstTypes: m.Dest}
	case *xt.AddrTypeV1:
		return decodeAddressTypes(m)
	case *xt.ConntrackMtinfo1:
		return decodeConntrack(&m.ConntrackMtinfoBase, uint32(m.StateMask))
	case *xt.ConntrackMtinfo2:
		return decodeConntrack(&m.ConntrackMtinfoBase, uint32(m.StateMask))
	case *xt.ConntrackMtinfo3:
		return decodeConntrack(&m.ConntrackMtinfoBase, uint32(m.StateMask))
	default:
		return expr{kind: mayMatch}
	}
}

func portCondition(d dim, ports [2]uint16, inverse bool) []condition {
	if ports == [2]uint16{0, math.MaxUint16} && !inverse {
		return nil
	}
	values := spans{{portValue(ports[0]), portValue(ports[1])}}
	if ports[0] > ports[1] {
		values = nil
	}
	if inverse {
		values = values.not(2)
	}
	return []condition{{d, values}}
}

func decodeTCP(m *xt.Tcp) expr {
	const understood = 0x3f
	if m.Option != 0 || m.FlagsMask&^understood != 0 {
		return expr{kind: mayMatch}
	}
	conditions := portCondition(peerPort, m.SrcPorts, m.InvFlags&xt.TcpInvSrcPorts != 0)
	conditions = append(conditions, portCondition(ownPort, m.DstPorts, m.InvFlags&xt.TcpInvDestPorts != 0)...)
	return expr{
		kind: match, conditions: conditions,
		tcpMask: m.FlagsMask, tcpFlags: m.FlagsCmp, tcpInverse: m.InvFlags&xt.TcpInvFlags != 0,
	}
}

func decodeAddressTypes(m *xt.AddrTypeV1) expr {
	const invertSource, invertDest = 1, 2 // XT_ADDRTYPE_*; the others limit the interface
	if m.Flags > invertSource|invertDest {
		return expr{kind: mayMatch}
	}
	e := expr{kind: match, srcTypes: m.Source, dstTypes: m.Dest}
	if m.Flags&invertSource != 0 {
		e.srcTypes = ^e.srcTypes
	}
	if m.Flags&invertDest != 0 {
		e.dstTypes = ^e.dstTypes
	}
	return e
}

func decodeConntrack(m *xt.ConntrackMtinfoBase, states uint32) expr {
	if xt.ConntrackFlags(m.MatchFlags)&^(xt.ConntrackState|xt.ConntrackStateAlias) != 0 {
		return expr{kind: mayMatch}
	}
	return stateMatch(states, xt.ConntrackFlags(m.InvertFlags)&xt.ConntrackState != 0)
}

// stateMatch returns a match of states. The first four are numbered as those of nftables
// are (XT_CONNTRACK_STATE_* of xt_conntrack.h); none of the others is one of a packet that
// is looked at.
func stateMatch(states uint32, inverse bool) expr {
	if inverse {
		states = ^states
	}
	if states &= stateInvalid | stateEstablished | stateNew; states == 0 {
		return expr{kind: match, never: true}
	}
	return expr{kind: match, states: states}
}

// decodeMultiport decodes struct xt_multiport_v1: flags, count, 15 ports, 15 flags of
// them, which mean that the next one ends a range, and whether all is inverted.
func decodeMultiport(revision uint32, info []byte) expr {
	const (
		source, destination = 0, 1
		maxPorts            = 15
		size                = 2 + 2*maxPorts + maxPorts + 1
	)
	if revision != 1 || len(info) < size || info[0] > destination || info[1] > maxPorts {
		return expr{kind: mayMatch}
	}
	port := func(i int) string { return portValue(binary.NativeEndian.Uint16(info[2+2*i:])) }
	var values spans
	for i := 0; i < int(info[1]); i++ {
		first := port(i)
		if info[2+2*maxPorts+i] != 0 && i+1 < int(info[1]) {
			i++
		}
		if last := port(i); first <= last {
			values = append(values, span{first, last})
		}
	}
	d := ownPort
	if info[0] == source {
		d = peerPort
	}
	return expr{kind: match, conditions: []condition{{d, union(values)}}, inverse: info[size-1] != 0}
}

// decodeTarget returns what a target does.
func decodeTarget(name string, family Family, revision uint32, info []byte) []expr {
	switch name {
	case "LOG", "NFLOG", "ULOG", "TRACE", "SECMARK", "CONNSECMARK", "CLASSIFY", "DSCP", "TOS", "ECN",
		"TCPMSS", "TCPOPTSTRIP", "CHECKSUM", "SET", "IDLETIMER", "AUDIT", "RATEEST", "LED", "TEE", "HL", "TTL":
		return []expr{{kind: nothing}}
	case "MARK", "CONNMARK":
		return []expr{{kind: marks}}
	case "CT", "NOTRACK":
		return []expr{{kind: loses}}
	case "REJECT":
		return []expr{{kind: rejects}}
	case "DROP":
		return []expr{{kind: setsVerdict, decree: decree{code: codeDrop}}}
	case "SNAT", "MASQUERADE":
		return []expr{{kind: translatesSource}}
	case "DNAT", "REDIRECT":
		return decodeNAT(name, family, revision, info)
	default:
		return []expr{{kind: leaves}}
	}
}

// natRange is the part of the ranges of every revision that is used.
type natRange struct {
	flags            xt.NatRangeFlags
	minIP, maxIP     net.IP
	minPort, maxPort uint16
}

// decodeNAT returns a translation as nftables has it: its addresses and ports in
// registers.
func decodeNAT(name string, family Family, revision uint32, info []byte) []expr {
	unclear := []expr{{kind: translates, target: translation{obscure: name}}}
	// The decoder makes room for as many ranges as a message announces.
	if family == familyIPv4 && revision == 0 && (len(info) < 4 || binary.NativeEndian.Uint32(info) != 1) {
		return unclear
	}
	decoded, err := xt.Unmarshal(name, xt.TableFamily(family), revision, info)
	if err != nil {
		return unclear
	}
	var r natRange
	switch m := decoded.(type) {
	case *xt.NatIPv4MultiRangeCompat:
		of := (*m)[0]
		r = natRange{xt.NatRangeFlags(of.Flags), of.MinIP, of.MaxIP, of.MinPort, of.MaxPort}
	case *xt.NatRange:
		r = natRange{xt.NatRangeFlags(m.Flags), m.MinIP, m.MaxIP, m.MinPort, m.MaxPort}
	case *xt.NatRange2:
		r = natRange{xt.NatRangeFlags(m.Flags), m.MinIP, m.MaxIP, m.MinPort, m.MaxPort}
	default:
		return unclear
	}
	return r.exprs(name == "REDIRECT", unclear)
}

func (r *natRange) exprs(redirect bool, unclear []expr) []expr {
	const addressMin, addressMax, portMin, portMax = firstRegister, firstRegister + 4, firstRegister + 8, firstRegister + 9
	const understood = xt.NatRangeMapIPs | xt.NatRangeProtoSpecified | xt.NatRangeProtoRandomAll | xt.NatRangePersistent
	if r.flags&^understood != 0 || !redirect && r.flags&xt.NatRangeMapIPs == 0 {
		return unclear
	}
	t := translation{redirect: redirect, addressMin: noRegister, addressMax: noRegister, portMin: noRegister, portMax: noRegister}
	var exprs []expr
	put := func(at int, value string) int {
		exprs = append(exprs, expr{kind: constant, dst: at, data: value})
		return at
	}
	if !redirect {
		t.addressMin, t.addressMax = put(addressMin, string(r.minIP)), put(addressMax, string(r.maxIP))
	}
	if r.flags&xt.NatRangeProtoSpecified != 0 {
		t.portMin, t.portMax = put(portMin, portValue(r.minPort)), put(portMax, portValue(r.maxPort))
	}
	return append(exprs, expr{kind: translates, target: t})
}
