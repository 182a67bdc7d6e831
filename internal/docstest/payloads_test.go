package docstest

import (
	"context"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestPayloadsInHex sends the payloads that docs/probes.md writes out to a server
// that gives one reply. The replies are put together by hand from the document
// that defines each protocol.
func TestPayloadsInHex(t *testing.T) {
	text := func(s string) string { return hex.EncodeToString([]byte(s)) }
	var block string
	for _, b := range fences(porttest.ReadFile(t, root+"/docs/probes.md"), "yaml") {
		if strings.Contains(b, "memcached:") {
			block = b
		}
	}
	c, err := config.Parse([]byte(block))
	if err != nil {
		t.Fatal(err)
	}
	const echo = "echo"
	version := "0000 0001 0000" + text("VERSION 1.6.18\r\n")
	for _, tt := range []struct {
		module, reply string
		want          probe.Outcome
	}{
		{"ike", text("portexpo") + "1111111111111111 29 20 22 20 00000000 00000024 0000 0008 0000000e", probe.Open}, // NO_PROPOSAL_CHOSEN
		{"ike", text("portexpo") + "ff80c2e2f0a01180 21 20 22 20 00000000 00000024 0000 0008 0000000e", probe.Open},
		{"ike", text("portexpO") + "1111111111111111 29 20 22 20 00000000 00000024 0000 0008 0000000e", probe.Mismatch},
		{"ike", text("portexpo") + "1111111111111111 29 20 25 20 00000000 00000024 0000 0008 0000000e", probe.Mismatch}, // INFORMATIONAL
		{"ike", echo, probe.Mismatch},
		{"cldap", "300c 0204 706f7274 64 04 0400 3000", probe.Open},
		{"cldap", "308400000010 0204 706f7274 65 8400000004 0a0100 04", probe.Open},
		{"cldap", "300c 0204 706f7275 64 04 0400 3000", probe.Mismatch},
		{"cldap", echo, probe.Mismatch},
		{"coap", "70 00 7065", probe.Open},
		{"coap", "60 00 7065", probe.Mismatch},
		{"coap", "70 00 7065 ff", probe.Mismatch},
		{"coap", echo, probe.Mismatch},
		{"memcached", "0001" + version, probe.Open},
		{"memcached", "0002" + version, probe.Mismatch},
		{"memcached", echo, probe.Mismatch},
	} {
		module := c.Modules[tt.module]
		if module == nil {
			t.Fatalf("docs/probes.md has no module %s", tt.module)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		got := module.Prober.Probe(ctx, probe.Request{Address: replyWith(t, tt.reply)})
		cancel()
		if got.Outcome != tt.want {
			t.Errorf("%s, answered %s: %s (%v), want %s", tt.module, tt.reply, got.Outcome, got.Err, tt.want)
		}
	}
}

// replyWith returns the address of a server that answers each datagram with these
// bytes, or with what it received where they are no digits.
func replyWith(t *testing.T, digits string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, client, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			reply, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
			if err != nil {
				reply = buf[:n]
			}
			_, _ = conn.WriteTo(reply, client)
		}
	}()
	return conn.LocalAddr().String()
}
