package sockdiag

import (
	"fmt"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Numbers of include/uapi/linux/vm_sockets_diag.h.
const (
	familyVsock = 40

	vsockDiagMsgLen = 32
)

var errVsockRow = fmt.Errorf("%w: not a struct vsock_diag_msg", socket.ErrMalformed)

// vsockRequest asks for the listening sockets of AF_VSOCK.
type vsockRequest struct{}

// appendTo appends the request as a netlink message, struct vsock_diag_req. Since
// Linux 4.15, which brought vsock_diag, the states of AF_VSOCK are those of TCP.
func (vsockRequest) appendTo(b []byte, seq uint32) []byte {
	b = appendHeader(b, sockDiagByFamily, 24, seq)
	b = append(b, familyVsock, 0, 0, 0)
	b = native.AppendUint32(b, 1<<socket.Listen)
	return append(b, make([]byte, 16)...)
}

// decodeVsock reads one struct vsock_diag_msg. It does not have the user.
func decodeVsock(b []byte) (portlessRow, error) {
	if len(b) < vsockDiagMsgLen || b[0] != familyVsock || socket.State(b[2]) != socket.Listen {
		return portlessRow{}, errVsockRow
	}
	row := portlessRow{Listener: socket.Listener{Sockets: 1}}
	row.SetVsock(socket.VsockAddr{CID: native.Uint32(b[4:]), Port: native.Uint32(b[8:])})
	row.Members = []socket.Member{{
		Inode:  uint64(native.Uint32(b[20:])),
		Cookie: cookieOf(b[24:]),
	}}
	return row, nil
}
