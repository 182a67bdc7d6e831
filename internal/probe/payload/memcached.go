package payload

import "bytes"

// memcachedMessage asks for the version, in the frame that memcached's
// doc/protocol.txt describes under "UDP protocol".
func memcachedMessage(f flow) Message {
	const frame = 8 // request id, sequence number, number of datagrams, reserved
	id := f.random[:2]
	return Message{
		Request: append([]byte{id[0], id[1], 0, 0, 0, 1, 0, 0}, "version\r\n"...),
		Check: func(reply []byte) error {
			switch {
			case len(reply) < frame:
				return notOurs("shorter than a memcached frame")
			case !bytes.Equal(reply[:frame], []byte{id[0], id[1], 0, 0, 0, 1, 0, 0}):
				return notOurs("another memcached frame")
			case !bytes.HasPrefix(reply[frame:], []byte("VERSION ")):
				return notOurs("not a memcached version")
			}
			return nil
		},
	}
}
