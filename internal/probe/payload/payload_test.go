package payload

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testFlow has random bytes that count from 0, so that requests can be written
// down.
func testFlow() flow {
	f := flow{
		local:  netip.MustParseAddrPort("192.0.2.1:40000"),
		remote: netip.MustParseAddrPort("192.0.2.2:5060"),
	}
	for i := range f.random {
		f.random[i] = byte(i)
	}
	return f
}

func buildNamed(t testing.TB, name string, f flow) Message {
	t.Helper()
	p, err := Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return p.build(f)
}

func TestParsePayload(t *testing.T) {
	for _, c := range []struct {
		text      string
		wantError string
		want      string // the bytes in hex
	}{
		{text: "nmap", wantError: `unknown payload "nmap"`},
		{text: "DNS", wantError: "unknown payload"},
		{text: "dns:", wantError: "unknown payload"},
		{text: "hex:f", wantError: "odd length"},
		{text: "hex:fg", wantError: "invalid byte"},
		{text: "base64:!", wantError: "illegal base64"},
		{text: "hex:" + strings.Repeat("00", maxPayload+1), wantError: "payload of 65508 bytes"},
		{text: "", want: ""},
		{text: "hex:", want: ""},
		{text: "hex:c0 ff\tEE", want: "c0ffee"},
		{text: "base64:wP/u", want: "c0ffee"},
	} {
		p, err := Parse(c.text)
		if c.wantError != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantError) {
				t.Errorf("ParsePayload(%.20q): error %v, want %q", c.text, err, c.wantError)
			}
			continue
		}
		if err != nil {
			t.Errorf("ParsePayload(%q): %v", c.text, err)
			continue
		}
		m := p.Message(netip.AddrPort{}, netip.AddrPort{})
		if got := hex.EncodeToString(m.Request); got != c.want || m.Check != nil {
			t.Errorf("ParsePayload(%q) = %s, with a check: %t; want %s without", c.text, got, m.Check != nil, c.want)
		}
	}
}

// TestPayloadRequests compares each request with bytes that were put together by
// hand from the document that defines it.
func TestPayloadRequests(t *testing.T) {
	for name, want := range map[string]string{
		// RFC 1035 4.1: id, RD, one question; the root, NS, IN.
		"dns": "0001 0100 0001 0000 0000 0000  00 0002 0001",
		// RFC 5905 7.3: LI 0, VN 4, mode 3; only the transmit timestamp is set.
		"ntp": "23000000" + strings.Repeat("00", 36) + "0001020304050607",
		// RFC 8489 5: binding request, no attributes, cookie, transaction.
		"stun": "0001 0000 2112a442 000102030405060708090a0b",
		// RFC 9000 17.2: long header, version, both connection ids; 1200 bytes.
		"quic": "c0 1a1a1a1a 08 0001020304050607 08 08090a0b0c0d0e0f" + strings.Repeat("00", 1200-23),
		// RFC 3414 4, X.690: version 3, header data, no user, empty get.
		"snmp": "303e 020103 3011 020440010203 020300ffe3 040104 020103" +
			"0410 300e 0400 020100 020100 0400 0400 0400" +
			"3014 0400 0400 a00e 020440010203 020100 020100 3000",
		// RFC 3261 8.1.1 and 11.1, RFC 3581.
		"sip": hex.EncodeToString([]byte(strings.ReplaceAll(`OPTIONS sip:192.0.2.2:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1:40000;branch=z9hG4bK0001020304050607;rport
Max-Forwards: 0
From: <sip:port_exporter@192.0.2.1:40000>;tag=08090a0b0c0d0e0f
To: <sip:192.0.2.2:5060>
Call-ID: 101112131415161718191a1b1c1d1e1f
CSeq: 1 OPTIONS
Contact: <sip:port_exporter@192.0.2.1:40000>
Accept: application/sdp
Content-Length: 0

`, "\n", "\r\n"))),
	} {
		t.Run(name, func(t *testing.T) {
			got := hex.EncodeToString(buildNamed(t, name, testFlow()).Request)
			if diff := cmp.Diff(strings.Join(strings.Fields(want), ""), got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

// replies are good replies to the requests of testFlow, and what makes them
// bad: a change of bytes at an offset. Cutting the last byte off is bad for
// all of them unless short says how many bytes matter.
func replies() map[string]struct {
	good  []string
	bad   []string
	short int
} {
	type set = struct {
		good  []string
		bad   []string
		short int
	}
	sip := func(lines ...string) string {
		return hex.EncodeToString([]byte(strings.Join(lines, "\r\n") + "\r\n\r\n"))
	}
	const via = "Via: SIP/2.0/UDP 192.0.2.1:40000;rport=40000;branch=z9hG4bK0001020304050607"
	return map[string]set{
		"dns": {
			good: []string{
				"0001 8180 0001 0000 0000 0000 00 0002 0001",           // an answer
				"0001 8105 0001 0000 0000 0000 00 0002 0001",           // REFUSED
				"0001 8101 0000 0000 0000 0000",                        // FORMERR, header only
				"0001 8180 0001 0001 0000 0000 00 0002 0001 00 000200", // more behind it
			},
			bad: []string{
				"0001 0100 0001 0000 0000 0000 00 0002 0001", // our query come back
				"0002 8180 0001 0000 0000 0000 00 0002 0001",
				"0001 a180 0001 0000 0000 0000 00 0002 0001", // opcode 4
				"0001 8180 0001 0000 0000 0000 00 0001 0001", // another question
				"0001 8180 0002 0000 0000 0000 00 0002 0001 00 0002 0001",
			},
			short: 17,
		},
		"ntp": {
			good: []string{
				"24010000" + strings.Repeat("00", 20) + "0001020304050607" + strings.Repeat("11", 16),
				"1c030000" + strings.Repeat("00", 20) + "0001020304050607" + strings.Repeat("11", 16) + "00000001",
			},
			bad: []string{
				"23010000" + strings.Repeat("00", 20) + "0001020304050607" + strings.Repeat("11", 16),
				"24010000" + strings.Repeat("00", 20) + "0001020304050608" + strings.Repeat("11", 16),
			},
			short: 48,
		},
		"stun": {
			good: []string{
				"0101 000c 2112a442 000102030405060708090a0b 0020 0008 0001 1234 21120000",
				"0111 0008 2112a442 000102030405060708090a0b 0009 0004 00000400",
			},
			bad: []string{
				"0001 000c 2112a442 000102030405060708090a0b 0020 0008 0001 1234 21120000",
				"0101 000c 2112a442 000102030405060708090a0c 0020 0008 0001 1234 21120000",
				"0101 000c 2112a443 000102030405060708090a0b 0020 0008 0001 1234 21120000",
			},
		},
		"quic": {
			good: []string{"80 00000000 08 08090a0b0c0d0e0f 08 0001020304050607 00000001"},
			bad: []string{
				"00 00000000 08 08090a0b0c0d0e0f 08 0001020304050607 00000001",
				"80 00000001 08 08090a0b0c0d0e0f 08 0001020304050607 00000001",
				"80 00000000 08 0001020304050607 08 08090a0b0c0d0e0f 00000001", // not swapped
				"80 00000000 08 08090a0b0c0d0e0f 08 0001020304050607",
			},
		},
		"snmp": {
			good: []string{
				"303e 020103 3010 020440010203 020205dc 040100 020103" +
					"0412 3010 0402 8000 020100 020100 0400 0400 0400" +
					"3013 0402 8000 0400 a80b 020100 020100 020100 3000",
				// The same in the long forms that net-snmp writes.
				"30820044 020103 30820010 020440010203 020205dc 040100 020103" +
					"0414 30820010 0402 8000 020100 020100 0400 0400 0400" +
					"30820013 0402 8000 0400 a80b 020100 020100 020100 3000",
			},
			bad: []string{
				"303e 020101 3010 020440010203 020205dc 040100 020103" + // version 1
					"0412 3010 0402 8000 020100 020100 0400 0400 0400" +
					"3013 0402 8000 0400 a80b 020100 020100 020100 3000",
				"303e 020103 3010 020440010204 020205dc 040100 020103" + // another id
					"0412 3010 0402 8000 020100 020100 0400 0400 0400" +
					"3013 0402 8000 0400 a80b 020100 020100 020100 3000",
				"303c 020103 3010 020440010203 020205dc 040100 020103" + // no engine
					"0410 300e 0400 020100 020100 0400 0400 0400" +
					"3013 0402 8000 0400 a80b 020100 020100 020100 3000",
				"303e 020103 3010 020440010203 020205dc 040100 020103" + // a get
					"0412 3010 0402 8000 020100 020100 0400 0400 0400" +
					"3013 0402 8000 0400 a00b 020100 020100 020100 3000",
				"3080 020103", "3085 0000000000", "30 84 ffffffff",
			},
		},
		"sip": {
			good: []string{
				sip("SIP/2.0 200 OK", via, "CSeq: 1 OPTIONS", "Content-Length: 0"),
				sip("SIP/2.0 483 Too Many Hops", "v: SIP/2.0/UDP x;BRANCH=z9hG4bK0001020304050607, SIP/2.0/UDP y;branch=z", "cseq :  1  OPTIONS"),
				sip("SIP/2.0 100", via, "Via: SIP/2.0/UDP other;branch=z9hG4bKother", "CSeq: 1 OPTIONS"),
			},
			bad: []string{
				sip("SIP/2.0 200 OK", "CSeq: 1 OPTIONS"),
				sip("SIP/2.0 200 OK", via),
				sip("SIP/2.0 200 OK", via, "CSeq: 1 INVITE"),
				sip("SIP/2.0 200 OK", via+"8", "CSeq: 1 OPTIONS"),
				sip("SIP/2.0 200 OK", "Via: SIP/2.0/UDP other;branch=z9hG4bKother", via, "CSeq: 1 OPTIONS"),
				sip("SIP/2.0 2x0 OK", via, "CSeq: 1 OPTIONS"),
				sip("SIP/3.0 200 OK", via, "CSeq: 1 OPTIONS"),
				sip("OPTIONS sip:x SIP/2.0", via, "CSeq: 1 OPTIONS"),
				sip("SIP/2.0 200 OK", "", via, "CSeq: 1 OPTIONS"), // in the body
			},
			short: 40,
		},
	}
}

func TestPayloadReplies(t *testing.T) {
	all := replies()
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			check := buildNamed(t, name, testFlow()).Check
			set, ok := all[name]
			if !ok {
				t.Fatal("no replies in the table")
			}
			for _, reply := range slices.Concat(set.bad, []string{"", "00", strings.Repeat("ff", 1500)}) {
				if check(hexBytes(t, reply)) == nil {
					t.Errorf("%.120s was taken", reply)
				}
			}
			if check(buildNamed(t, name, testFlow()).Request) == nil {
				t.Error("the request was taken for its reply")
			}
			for _, reply := range set.good {
				if err := check(hexBytes(t, reply)); err != nil {
					t.Errorf("%.120s: %v", reply, err)
				}
			}
			for _, truncated := range truncations(hexBytes(t, set.good[0]), set.short) {
				if check(truncated) == nil {
					t.Errorf("%x, cut off, was taken", truncated)
				}
			}
		})
	}
}

// truncations returns every beginning of b that is shorter than n bytes; of b
// itself when n is 0.
func truncations(b []byte, n int) [][]byte {
	if n == 0 {
		n = len(b)
	}
	var all [][]byte
	for i := range n {
		all = append(all, b[:i])
	}
	return all
}

func hexBytes(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
	if err != nil {
		t.Fatalf("%s: %v", digits, err)
	}
	return b
}

// FuzzPayloadReply checks this: whatever a stranger sends, it
// does not panic, and what it takes for a reply to one request it does not take
// for a reply to another.
func FuzzPayloadReply(f *testing.F) {
	for name, set := range replies() {
		for _, reply := range slices.Concat(set.good, set.bad) {
			f.Add(uint8(slices.Index(Names(), name)), hexBytes(f, reply))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, reply []byte) {
		payload := named()[int(which)%len(named())]
		ours, other := testFlow(), testFlow()
		for i := range other.random {
			other.random[i] = ^other.random[i]
		}
		kept := bytes.Clone(reply)
		if payload.build(ours).Check(reply) == nil && payload.build(other).Check(reply) == nil {
			t.Errorf("%s: %x is a reply to two requests", payload, reply)
		}
		if !bytes.Equal(kept, reply) {
			t.Errorf("%s: the check changed the reply", payload)
		}
	})
}
