package payload

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// sipMessage is an OPTIONS request, RFC 3261 section 11. Max-Forwards 0 makes a
// proxy answer itself instead of ringing somebody else (section 16.3), and
// rport makes the reply come back through a NAT (RFC 3581). The names in it are
// addresses: a target's name may hold anything.
func sipMessage(f flow) Message {
	branch := "z9hG4bK" + hex.EncodeToString(f.random[:8])
	var b strings.Builder
	fmt.Fprintf(&b, "OPTIONS sip:%s SIP/2.0\r\n", f.remote)
	fmt.Fprintf(&b, "Via: SIP/2.0/UDP %s;branch=%s;rport\r\n", f.local, branch)
	fmt.Fprintf(&b, "Max-Forwards: 0\r\n")
	fmt.Fprintf(&b, "From: <sip:port_exporter@%s>;tag=%x\r\n", f.local, f.random[8:16])
	fmt.Fprintf(&b, "To: <sip:%s>\r\n", f.remote)
	fmt.Fprintf(&b, "Call-ID: %x\r\n", f.random[16:32])
	fmt.Fprintf(&b, "CSeq: 1 OPTIONS\r\n")
	fmt.Fprintf(&b, "Contact: <sip:port_exporter@%s>\r\n", f.local)
	fmt.Fprintf(&b, "Accept: application/sdp\r\n")
	fmt.Fprintf(&b, "Content-Length: 0\r\n\r\n")
	return Message{[]byte(b.String()), func(reply []byte) error { return checkSIP(branch, string(reply)) }}
}

// checkSIP matches a response as section 17.1.3 does: by the branch of the
// first Via and the method in CSeq. Any status is a sign of life.
func checkSIP(branch, reply string) error {
	status, headers, _ := strings.Cut(reply, "\r\n")
	code, ok := strings.CutPrefix(status, "SIP/2.0 ")
	if !ok || len(code) < 3 || strings.Trim(code[:3], "0123456789") != "" {
		return notOurs("not a SIP response")
	}
	via, method := "", ""
	for line := range strings.Lines(headers) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "via", "v":
			if via == "" {
				via, _, _ = strings.Cut(value, ",")
			}
		case "cseq":
			method = strings.Join(strings.Fields(value), " ")
		}
	}
	if sipParameter(via, "branch") != branch {
		return notOurs("another SIP branch")
	}
	if method != "1 OPTIONS" {
		return notOurs("another SIP CSeq")
	}
	return nil
}

// sipParameter returns a parameter of a header's value, empty when it is absent.
func sipParameter(value, name string) string {
	for part := range strings.SplitSeq(value, ";") {
		key, v, _ := strings.Cut(part, "=")
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
