package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// startSecurePostgres starts PostgreSQL with the certificate of a directory, and
// returns the path of its log.
func startSecurePostgres(t *testing.T, certificates string) (log string) {
	t.Helper()
	postgres := porttest.Program(t, "SKIP-SERVERS", "/usr/lib/postgresql/*/bin/postgres")
	as := porttest.As(t, "postgres")
	data := porttest.DirOf(t, as)
	cmd := exec.Command(filepath.Join(filepath.Dir(postgres), "initdb"), "--no-sync", "-A", "trust", "-D", data)
	cmd.SysProcAttr, cmd.Dir = as, data
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	for _, name := range []string{"crt", "key"} {
		pem, err := os.ReadFile(filepath.Join(certificates, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(data, name)
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	cmd = exec.Command(postgres, "-D", data, "-h", "127.0.0.1", "-p", "5432", "-k", data, "-c", "ssl=on", "-c", "ssl_cert_file=crt", "-c", "ssl_key_file=key",
		"-c", "logging_collector=on", "-c", "log_directory="+data, "-c", "log_filename=log")
	cmd.SysProcAttr, cmd.Dir = as, data
	start(t, cmd)
	return filepath.Join(data, "log")
}

// TestConfiguredServersInNamespace probes real servers in ways that a file says.
func TestConfiguredServersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	certificates := t.TempDir()
	selfSigned(t, certificates)
	log := startSecurePostgres(t, certificates)
	as := porttest.As(t, "redis")
	dir := porttest.DirOf(t, as)
	redis := exec.Command(porttest.Program(t, "SKIP-SERVERS", "redis-server"), "--bind", "127.0.0.1", "--port", "6379", "--unixsocket", dir+"/socket", "--dir", dir, "--save", "")
	redis.SysProcAttr = as
	start(t, redis)
	for _, address := range []string{"127.0.0.1:5432", "127.0.0.1:6379"} {
		awaitListening(t, address)
	}

	const steps = "{expect_bytes: S}, {starttls: true}]"
	startInNamespace(t, "port_exporter", "--config.file="+write(t, `
modules:
  postgres: {prober: tcp, tcp: {tls_config: {ca_file: %[1]s/crt}, query_response: [{send_bytes: "hex:00000008 04d2162f"}, %[2]s}}
  postgres_line: {prober: tcp, tcp: {tls_config: {ca_file: %[1]s/crt}, query_response: [{send: !!binary AAAACATSFi8=}, %[2]s}}
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
  - {address: %[3]s/socket, module: redis_socket}
`, certificates, steps, dir))

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
		{dir + "/socket", "redis_socket", 0},
		{"127.0.0.1:5432", "distrust", 10}, // tls_certificate
		{"127.0.0.1:5432", "postgres", 0},
	} {
		status, body := porttest.Get(t, scrapeAddress, "/probe?module="+tt.module+"&target="+tt.address)
		if status != 200 || !strings.Contains(body, fmt.Sprintf("\nprobe_outcome_code %d\n", tt.code)) {
			t.Errorf("%s: status %d, want outcome %d:\n%s", tt.module, status, tt.code, body)
		}
	}
	if text := complaints(); text != "" {
		t.Errorf("PostgreSQL complains of what send_bytes sends:\n%s", text)
	}
	// And so that this would be seen: with a line feed it is open, and a complaint.
	if _, body := porttest.Get(t, scrapeAddress, "/probe?module=postgres_line&target=127.0.0.1:5432"); !strings.Contains(body, "\nprobe_success 1\n") {
		t.Errorf("as blackbox.yml has it:\n%s", body)
	}
	await(t, "the complaint of PostgreSQL", func() bool { return complaints() != "" })
	t.Log(complaints())
}
