package payload

import "bytes"

// coapMessage is the "CoAP ping" of RFC 7252 section 4.3: an empty confirmable
// message, which must be answered with a reset.
func coapMessage(f flow) Message {
	const version1, confirmable, reset = 1 << 6, 0 << 4, 3 << 4
	id := f.random[:2]
	return Message{
		Request: []byte{version1 | confirmable, 0, id[0], id[1]},
		Check: func(reply []byte) error {
			if !bytes.Equal(reply, []byte{version1 | reset, 0, id[0], id[1]}) {
				return notOurs("not the reset of our CoAP message")
			}
			return nil
		},
	}
}
