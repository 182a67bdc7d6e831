package sockdiag

import (
	"fmt"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Numbers of include/uapi/linux/unix_diag.h.
const (
	familyUnix = 1

	unixShowName   = 0x01
	unixShowQueues = 0x10 // UDIAG_SHOW_RQLEN
	unixShowUID    = 0x40 // Linux 5.3; older kernels skip it

	unixDiagMsgLen = 16

	attrUnixName   = 0
	attrUnixQueues = 4
	attrUnixUID    = 7
)

var errUnixRow = fmt.Errorf("%w: not a listener in a struct unix_diag_msg with its name", socket.ErrMalformed)

// unixRequest asks for the listening sockets of AF_UNIX, whose states are those of
// TCP. The kernel walks all sockets of the network namespace and sends these.
type unixRequest struct{}

// appendTo appends the request as a netlink message, struct unix_diag_req.
func (unixRequest) appendTo(b []byte, seq uint32) []byte {
	b = appendHeader(b, sockDiagByFamily, 24, seq)
	b = append(b, familyUnix, 0, 0, 0)
	b = native.AppendUint32(b, 1<<socket.Listen)
	b = native.AppendUint32(b, 0) // of any inode
	b = native.AppendUint32(b, unixShowName|unixShowQueues|unixShowUID)
	return append(b, make([]byte, 8)...)
}

// decodeUnix reads one struct unix_diag_msg with its attributes. The queues of a
// listener are the connections that wait, and the limit on them (sk_diag_show_rqlen
// in net/unix/diag.c).
func decodeUnix(b []byte) (portlessRow, error) {
	if len(b) < unixDiagMsgLen || b[0] != familyUnix || socket.State(b[2]) != socket.Listen {
		return portlessRow{}, errUnixRow
	}
	l := socket.NewUnix(socket.UnixName{}, socket.Member{Inode: uint64(native.Uint32(b[4:])), Cookie: cookieOf(b[8:])})
	named := false
	b = b[unixDiagMsgLen:]
	for len(b) >= attrHeaderLen {
		kind, value, rest, ok := nextAttribute(b)
		if !ok {
			return portlessRow{}, errUnixRow
		}
		switch {
		case kind == attrUnixName && len(value) > 0:
			l.Unix, named = socket.KernelUnixName(value), true
		case kind == attrUnixQueues && len(value) >= 8:
			l.SetQueue(socket.AcceptQueue{Length: native.Uint32(value), Limit: native.Uint32(value[4:])})
		case kind == attrUnixUID && len(value) >= 4:
			l.Members[0].UID, l.Known = native.Uint32(value), l.Known|socket.KnowsUID
		}
		b = rest
	}
	if !named { // only a socket with a name can listen
		return portlessRow{}, errUnixRow
	}
	return portlessRow{Listener: l}, nil
}
