package payload

import "bytes"

// ntpMessage is a client's request of RFC 5905 section 7.3. Its transmit
// timestamp is random: the server only repeats it, and our time is no business
// of anybody's.
func ntpMessage(f flow) Message {
	const length, originAt, transmitAt = 48, 24, 40
	const version4, client, server = 4 << 3, 3, 4
	request := make([]byte, length)
	request[0] = version4 | client
	stamp := request[transmitAt:]
	copy(stamp, f.random[:8])
	return Message{request, func(reply []byte) error {
		switch {
		case len(reply) < length:
			return notOurs("shorter than an NTP packet")
		case reply[0]&7 != server:
			return notOurs("not of an NTP server's mode")
		case !bytes.Equal(reply[originAt:originAt+8], stamp):
			return notOurs("another NTP origin timestamp")
		}
		return nil // a kiss-o'-death is a sign of life too
	}}
}
