package payload

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"
)

var testTransaction = STUNTransaction{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}

func TestParseSTUN(t *testing.T) {
	const id = "000102030405060708090a0b"
	const cookie = "2112a442"
	xor4 := "0020 0008 0001 8d52 e112a643" // 192.0.2.1:44096
	for _, c := range []struct {
		name    string
		message string
		want    STUNResponse
		wantErr error
	}{
		{name: "nothing", wantErr: ErrNotSTUN},
		{name: "a byte short of a header", message: "0101 0000" + cookie + id[:22], wantErr: ErrNotSTUN},
		{name: "a request", message: "0001 0000" + cookie + id, wantErr: ErrNotSTUN},
		{name: "an indication", message: "0011 0000" + cookie + id, wantErr: ErrNotSTUN},
		{name: "RFC 3489 has no cookie", message: "0101 000c 00000000" + id + xor4, wantErr: ErrNotSTUN},
		{name: "longer than it says", message: "0101 0008" + cookie + id + xor4, wantErr: ErrNotSTUN},
		{name: "shorter than it says", message: "0101 0010" + cookie + id + xor4, wantErr: ErrNotSTUN},
		{name: "not in words", message: "0101 000d" + cookie + id + xor4 + "00", wantErr: ErrNotSTUN},
		{name: "an attribute beyond the end", message: "0101 000c" + cookie + id + "0020 000c 0001 8d52 e112a643", wantErr: ErrNotSTUN},
		{name: "padding beyond the end", message: "0101 0008" + cookie + id + "8022 0005 41424344", wantErr: ErrNotSTUN},
		{name: "an address without address", message: "0101 0008" + cookie + id + "0020 0004 0001 8d52", wantErr: ErrNotSTUN},
		{name: "an address of two bytes", message: "0101 0008" + cookie + id + "0020 0002 0001 0000", wantErr: ErrNotSTUN},
		{name: "IPv4 in an IPv6 family", message: "0101 000c" + cookie + id + "0020 0008 0002 8d52 e112a643", wantErr: ErrNotSTUN},
		{name: "family 3", message: "0101 000c" + cookie + id + "0020 0008 0003 8d52 e112a643", wantErr: ErrNotSTUN},
		{name: "no address", message: "0101 0000" + cookie + id, wantErr: errSTUNMapping},
		{name: "an error without code", message: "0111 0000" + cookie + id, wantErr: ErrNotSTUN},
		{name: "an error with a short code", message: "0111 0008" + cookie + id + "0009 0003 00000400", wantErr: ErrNotSTUN},
		{
			name: "an error", message: "0111 0010" + cookie + id + "0009 000b 00000414" + hex.EncodeToString([]byte("no such")) + "00",
			want: STUNResponse{Code: 420},
		},
		{
			name: "xor before plain", message: "0101 0018" + cookie + id + "0001 0008 0001 1234 7f000001" + xor4,
			want: STUNResponse{Mapped: netip.MustParseAddrPort("192.0.2.1:44096")},
		},
		{
			name: "plain alone", message: "0101 000c" + cookie + id + "0001 0008 0001 1234 7f000001",
			want: STUNResponse{Mapped: netip.MustParseAddrPort("127.0.0.1:4660")},
		},
		{
			name: "other, software, and the first of two", message: "0101 002c" + cookie + id + xor4 +
				"8022 0003 41424300 802c 0008 0001 0d97 c0000203 802c 0008 0001 0001 7f000001",
			want: STUNResponse{
				Mapped: netip.MustParseAddrPort("192.0.2.1:44096"),
				Other:  netip.MustParseAddrPort("192.0.2.3:3479"),
			},
		},
		{
			name: "IPv6", message: "0101 0018" + cookie + id + "0020 0014 0002 0000 0113a9fa" + "000102030405060708090a0b",
			want: STUNResponse{Mapped: netip.MustParseAddrPort("[2001:db8::]:8466")},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseSTUN(hexBytes(t, c.message))
			if !errors.Is(err, c.wantErr) {
				t.Fatalf("error %v, want %v", err, c.wantErr)
			}
			if c.wantErr == nil {
				c.want.Transaction = testTransaction
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestSTUNRequestAsOthersReadIt reads our requests with pion/stun.
func TestSTUNRequestAsOthersReadIt(t *testing.T) {
	for _, change := range []STUNChange{STUNChangeNothing, STUNChangePort, STUNChangeAddress | STUNChangePort} {
		m := &stun.Message{Raw: STUNRequest(testTransaction, change)}
		if err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		if m.Type != stun.BindingRequest || m.TransactionID != testTransaction {
			t.Errorf("pion reads %s", m)
		}
		value, err := m.Get(stun.AttrChangeRequest)
		if change == STUNChangeNothing {
			if len(m.Attributes) != 0 {
				t.Errorf("attributes %v, want none", m.Attributes)
			}
			continue
		}
		if err != nil || !bytes.Equal(value, []byte{0, 0, 0, byte(change)}) {
			t.Errorf("CHANGE-REQUEST %x, %v; want %d", value, err, change)
		}
	}
}

// TestSTUNResponsesOfOthers reads responses that pion/stun wrote.
func TestSTUNResponsesOfOthers(t *testing.T) {
	id := stun.NewTransactionIDSetter(testTransaction)
	for _, c := range []struct{ mapped, other string }{
		{"192.0.2.1:44096", "192.0.2.3:3479"},
		{"[2001:db8::1]:1", "[2001:db8::2]:65535"},
		{"255.255.255.255:0", "0.0.0.0:0"},
	} {
		mapped, other := netip.MustParseAddrPort(c.mapped), netip.MustParseAddrPort(c.other)
		m, err := stun.Build(id, stun.BindingSuccess, stun.NewSoftware("a server"),
			&stun.XORMappedAddress{IP: mapped.Addr().AsSlice(), Port: int(mapped.Port())},
			&stun.OtherAddress{IP: other.Addr().AsSlice(), Port: int(other.Port())}, stun.Fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		want := STUNResponse{Transaction: testTransaction, Mapped: mapped, Other: other}
		if got, err := ParseSTUN(m.Raw); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	m, err := stun.Build(id, stun.BindingError, stun.CodeUnauthorized, stun.NewRealm("example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseSTUN(m.Raw); err != nil || got.Code != 401 {
		t.Errorf("got %+v, %v; want 401", got, err)
	}
}

// FuzzParseSTUN compares what we read with what pion/stun reads: whatever we
// take it takes too, and finds the same addresses in it.
func FuzzParseSTUN(f *testing.F) {
	for _, set := range []string{
		"0101 000c 2112a442 000102030405060708090a0b 0020 0008 0001 8d52 e112a643",
		"0101 0018 2112a442 000102030405060708090a0b 0020 0014 0002 0000 0113a9fa 000102030405060708090a0b",
		"0101 0018 2112a442 000102030405060708090a0b 0001 0008 0001 1234 7f000001 802c 0008 0001 0d97 c0000203",
		"0111 0008 2112a442 000102030405060708090a0b 0009 0004 00000400",
	} {
		f.Add(hexBytes(f, set))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseSTUN(b)
		if err != nil {
			return
		}
		m := &stun.Message{Raw: bytes.Clone(b)}
		if err := m.Decode(); err != nil {
			t.Fatalf("%x: pion: %v", b, err)
		}
		if got.Transaction != m.TransactionID {
			t.Errorf("transaction %x, pion: %x", got.Transaction, m.TransactionID)
		}
		var xor stun.XORMappedAddress
		if xor.GetFrom(m) == nil && got.Mapped != addrPort(xor.IP, xor.Port) {
			t.Errorf("mapped %s, pion: %s", got.Mapped, xor)
		}
		var other stun.OtherAddress
		if other.GetFrom(m) == nil && got.Other != addrPort(other.IP, other.Port) {
			t.Errorf("other %s, pion: %s", got.Other, other)
		}
	})
}

func addrPort(ip net.IP, port int) netip.AddrPort {
	address, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(address.Unmap(), uint16(port))
}
