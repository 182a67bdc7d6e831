package probetest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestConfiguredServersInNamespace probes real servers in ways that a file says.
func TestConfiguredServersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	certificate := porttest.SelfSigned(t)
	ca := porttest.WritePEM(t, filepath.Join(t.TempDir(), "pem"), certificate)
	log := filepath.Join(porttest.Postgres(t, &certificate, "-c", "logging_collector=on", "-c", "log_directory=.", "-c", "log_filename=log"), "log")
	redis := porttest.Redis(t)
	porttest.AwaitListening(t, "127.0.0.1:5432", redis)

	const steps = "{expect_bytes: S}, {starttls: true}]"
	porttest.StartDaemon(t, "port_exporter", "--config.file="+write(t, `
modules:
  postgres: {prober: tcp, tcp: {tls_config: {ca_file: %[1]s}, query_response: [{send_bytes: "hex:00000008 04d2162f"}, %[2]s}}
  postgres_line: {prober: tcp, tcp: {tls_config: {ca_file: %[1]s}, query_response: [{send: !!binary AAAACATSFi8=}, %[2]s}}
  distrust: {prober: tcp, tcp: {query_response: [{send_bytes: "hex:00000008 04d2162f"}, %[2]s}}
  redis: {prober: tcp, tcp: {close: rst, query_response: [{send: PING}, {expect: "^.PONG$"}]}}
  redis_bytes: {prober: tcp, tcp: {query_response: [{send_bytes: "hex:2a310d0a24340d0a50494e470d0a"}, {expect_bytes: +PONG}]}}
  redis_login: {prober: tcp, tcp: {query_response: [{send: AUTH a b}, {expect_bytes: +OK}]}}
  redis_socket: {prober: unix, unix: {query_response: [{send_bytes: "hex:50494e470d0a"}, {expect: "^.PONG$"}]}}
targets:
  - {address: "127.0.0.1:5432", module: postgres}
  - {address: "127.0.0.1:5432", module: postgres_line}
  - {address: "127.0.0.1:5432", module: distrust}
  - {address: "127.0.0.1:6379", module: redis}
  - {address: "127.0.0.1:6379", module: redis_bytes}
  - {address: "127.0.0.1:6379", module: redis_login}
  - {address: %[3]s, module: redis_socket}
`, ca, steps, redis))

	complaints := func() string {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "FATAL") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	for _, tt := range []struct {
		address, module string
		code            int
	}{
		{"127.0.0.1:6379", "redis", 0},
		{"127.0.0.1:6379", "redis_bytes", 0},
		{"127.0.0.1:6379", "redis_login", 12}, // mismatch
		{redis, "redis_socket", 0},
		{"127.0.0.1:5432", "distrust", 10}, // tls_certificate
		{"127.0.0.1:5432", "postgres", 0},
	} {
		status, body := porttest.Get(t, porttest.ScrapeAddress, "/probe?module="+tt.module+"&target="+tt.address)
		if status != 200 || !strings.Contains(body, fmt.Sprintf("\nprobe_outcome_code %d\n", tt.code)) {
			t.Errorf("%s: status %d, want outcome %d:\n%s", tt.module, status, tt.code, body)
		}
	}
	if text := complaints(); text != "" {
		t.Errorf("PostgreSQL complains of what send_bytes sends:\n%s", text)
	}
	// And so that this would be seen: with a line feed it is open, and a complaint.
	if _, body := porttest.Get(t, porttest.ScrapeAddress, "/probe?module=postgres_line&target=127.0.0.1:5432"); !strings.Contains(body, "\nprobe_success 1\n") {
		t.Errorf("as blackbox.yml has it:\n%s", body)
	}
	porttest.Await(t, "the complaint of PostgreSQL", func() bool { return complaints() != "" })
	t.Log(complaints())
}
