package procnet

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Raw returns the raw sockets in the files net/raw and net/raw6 below a procfs, up
// to a limit. They do not say which device a socket is bound to.
func Raw(procfs string, limit int) (read socket.PortlessRead, err error) {
	for name, family := range map[string]socket.Family{"raw": socket.IPv4, "raw6": socket.IPv6} {
		err := readPortless(procfs, name, limit, &read, func(line []byte) (socket.Listener, error) { return parseRaw(line, family) })
		if err != nil && (name != "raw6" || !errors.Is(err, fs.ErrNotExist)) {
			return read, err
		}
	}
	return read, nil
}

// Packets returns the packet sockets in the file net/packet below a procfs, up to a
// limit. It does not say which have a filter. The name of a device is made of its
// index.
func Packets(procfs string, limit int, device func(index int) string) (read socket.PortlessRead, err error) {
	err = readPortless(procfs, "packet", limit, &read, func(line []byte) (socket.Listener, error) { return parsePacket(line, device) })
	return read, err
}

// readPortless adds the lines of a file but for its header.
func readPortless(procfs, name string, limit int, read *socket.PortlessRead, parse func(line []byte) (socket.Listener, error)) error {
	f, err := os.Open(filepath.Join(procfs, "net", name))
	if err != nil {
		return fmt.Errorf("procnet: %w", err)
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 4<<10)
	for n := 0; ; n++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			if n == 0 { // as in a sandbox that has no such table
				return fmt.Errorf("procnet: %s is empty, without a header", name)
			}
			return nil
		}
		if err != nil && !errors.Is(err, errLine) {
			return fmt.Errorf("procnet: read %s: %w", name, err)
		}
		if n == 0 {
			continue
		}
		l, parseErr := parse(line)
		if errors.Is(parseErr, errNoListener) {
			continue
		}
		read.Add(l, cmp.Or(err, parseErr), limit)
	}
}

// parseRaw reads a line of net/raw, which has the columns of net/udp: the port of
// the local address is the IP protocol.
func parseRaw(line []byte, family socket.Family) (socket.Listener, error) {
	var s socket.Socket
	if err := parseLine(line, socket.UDP, family, &s); err != nil {
		return socket.Listener{}, err
	}
	l := socket.Listener{Scope: socket.ScopeOf(s.Local.Addr()), Sockets: 1, Known: socket.KnowsUID}
	l.Protocol, l.Address, l.Port = socket.Raw, s.Local.Addr(), s.Local.Port()
	l.Members = []socket.Member{{Inode: s.Inode, UID: s.UID}}
	return l, nil
}

// parsePacket reads a line of net/packet, as packet_seq_show of
// net/packet/af_packet.c writes it.
func parsePacket(line []byte, device func(index int) string) (socket.Listener, error) {
	const columnType, columnProto, columnDevice, columnUser, columnInodeOfPacket = 2, 3, 4, 7, 8
	var columns [maxColumns][]byte
	if split(line, &columns) <= columnInodeOfPacket {
		return socket.Listener{}, errLine
	}
	kind, ok1 := decimal(columns[columnType], math.MaxUint8)
	proto, ok2 := hex(columns[columnProto], math.MaxUint16)
	index, ok3 := decimal(columns[columnDevice], math.MaxInt32)
	uid, ok4 := decimal(columns[columnUser], math.MaxUint32)
	inode, ok5 := decimal(columns[columnInodeOfPacket], math.MaxUint64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return socket.Listener{}, errLine
	}
	l := socket.Listener{PacketType: socket.KernelPacketType(uint8(kind)), Sockets: 1, Known: socket.KnowsUID}
	l.Protocol, l.Port = socket.Packet, uint16(proto)
	if index != 0 {
		l.Interface = device(int(index))
	}
	l.Members = []socket.Member{{Inode: inode, UID: uint32(uid)}}
	return l, nil
}
