// Package procnet reads the sockets of a Linux network namespace from
// /proc/net/tcp and its siblings, proc_pid_net(5), for kernels and sandboxes
// without sock_diag. It costs about twice as much and provides less: no accept
// queue limit, no drops of a listener, no IPV6_V6ONLY, no bound device, no
// cgroup.
//
// parse.go is pure; source.go opens the files.
package procnet

// This file holds the inner loop of a read: parseLine runs once for each
// socket of the host. It must not allocate, and it must take any bytes.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/socket"
)

var errLine = fmt.Errorf("%w: not a line of /proc/net/tcp or udp", socket.ErrMalformed)

// The columns of a line, as net/ipv4/tcp_ipv4.c and udp.c write them.
const (
	columnLocal   = 1
	columnRemote  = 2
	columnState   = 3
	columnQueues  = 4
	columnTimer   = 5 // which timer runs, and when it ends
	columnRetrans = 6
	columnUID     = 7
	columnInode   = 9
	columnDrops   = 12 // of the udp files only
	minColumns    = 10
	maxColumns    = 13
)

// The timers of a connection that matter (get_tcp4_sock, net/ipv4/tcp_ipv4.c).
const (
	timerRetransmit = "01"
	timerProbe      = "04"
)

// parseLine reads one line into s. It returns errLine, and leaves s undefined,
// for what is not a line of these files.
func parseLine(line []byte, protocol socket.Protocol, family socket.Family, s *socket.Socket) error {
	var columns [maxColumns][]byte
	count := split(line, &columns)
	if count < minColumns {
		return errLine
	}
	*s = socket.Socket{Protocol: protocol, Family: family, Known: socket.KnowsUID | socket.KnowsQueues}
	var ok [6]bool
	var kernelState, uid, send, receive uint64
	s.Local, ok[0] = address(columns[columnLocal], family)
	s.Remote, ok[1] = address(columns[columnRemote], family)
	kernelState, ok[2] = hex(columns[columnState], math.MaxUint8)
	send, receive, ok[3] = queues(columns[columnQueues])
	uid, ok[4] = decimal(columns[columnUID], math.MaxUint32)
	s.Inode, ok[5] = decimal(columns[columnInode], math.MaxUint64)
	if ok != [6]bool{true, true, true, true, true, true} {
		return errLine
	}
	s.UID = uint32(uid)
	if s.State = socket.KernelState(protocol, uint8(kernelState)); s.State == 0 {
		return errLine
	}
	if s.State == socket.Listen {
		s.AcceptQueue = uint32(receive) // tx_queue is zero here, not the limit
		return nil
	}
	s.SendQueue, s.ReceiveQueue = uint32(send), uint32(receive)
	switch timer, _, _ := bytes.Cut(columns[columnTimer], []byte(":")); string(timer) {
	case timerRetransmit:
		retransmits, _ := hex(columns[columnRetrans], math.MaxUint8)
		s.Retransmits = uint8(retransmits)
	case timerProbe:
		s.ZeroWindow = true
	}
	if protocol != socket.TCP && count > columnDrops {
		if drops, ok := decimal(columns[columnDrops], math.MaxUint32); ok {
			s.Drops = uint32(drops)
			s.Known |= socket.KnowsDrops
		}
	}
	return nil
}

// split fills columns with the fields of a line and returns how many there are.
func split(line []byte, columns *[maxColumns][]byte) int {
	count, at := 0, 0
	for count < maxColumns {
		for at < len(line) && line[at] == ' ' {
			at++
		}
		if at == len(line) {
			break
		}
		start := at
		for at < len(line) && line[at] != ' ' {
			at++
		}
		columns[count] = line[start:at]
		count++
	}
	return count
}

// address parses "0100007F:1F90": the address as 32-bit words in the byte
// order of the host, the port as a number.
func address(b []byte, family socket.Family) (netip.AddrPort, bool) {
	words := 1
	if family == socket.IPv6 {
		words = 4
	}
	if len(b) != 8*words+1+4 || b[8*words] != ':' {
		return netip.AddrPort{}, false
	}
	port, ok := hex(b[8*words+1:], math.MaxUint16)
	if !ok {
		return netip.AddrPort{}, false
	}
	var raw [16]byte
	for i := range words {
		word, ok := hex(b[8*i:8*i+8], math.MaxUint32)
		if !ok {
			return netip.AddrPort{}, false
		}
		binary.NativeEndian.PutUint32(raw[4*i:], uint32(word))
	}
	if family == socket.IPv4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[:4])), uint16(port)), true
	}
	return netip.AddrPortFrom(netip.AddrFrom16(raw).Unmap(), uint16(port)), true
}

// queues parses "tx_queue:rx_queue".
func queues(b []byte) (send, receive uint64, ok bool) {
	before, after, _ := bytes.Cut(b, []byte(":"))
	send, sendOK := hex(before, math.MaxUint32)
	receive, receiveOK := hex(after, math.MaxUint32)
	return send, receive, sendOK && receiveOK
}

func hex(b []byte, limit uint64) (uint64, bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uint64(c-'0')
		case 'A' <= c && c <= 'F':
			n = n<<4 | uint64(c-'A'+10)
		case 'a' <= c && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, n <= limit
}

func decimal(b []byte, limit uint64) (uint64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' || n > (math.MaxUint64-uint64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= limit
}
