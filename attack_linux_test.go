package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

var attackTime = flag.Duration("attack", 20*time.Second, "how long TestAttack attacks")

const (
	// attackDescriptors is RLIMIT_NOFILE of the daemon that is attacked: it is less
	// than the connections of the attackers.
	attackDescriptors = 256
	// Prometheus and the attackers come from two addresses, and so does a client that
	// has few connections, so that none is closed in favour of another.
	prometheusAddress, attackerAddress, patientAddress = "127.0.0.1", "127.0.0.2", "127.0.0.3"
)

// attacked is a daemon that is attacked.
type attacked struct {
	t       *testing.T
	address string
	tls     *tls.Config // nil without TLS
	log     *porttest.Log
	opened  atomic.Int64 // connections of attackers
}

// TestAttack attacks every endpoint of a daemon that has few descriptors, in every way
// below, with and without a password, while Prometheus scrapes it each second: every
// scrape is answered, whole.
func TestAttack(t *testing.T) {
	for name, password := range map[string]string{"open": "", "password": "s3cret"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startAttacked(t, password)
			ctx, cancel := context.WithTimeout(t.Context(), *attackTime)
			defer cancel()
			var attackers sync.WaitGroup
			attackers.Go(func() { d.attack(ctx) })
			if password != "" {
				attackers.Go(func() { d.wait(ctx) })
			}
			d.scrapeEachSecond(ctx, password)
			attackers.Wait()
			d.recovers(password)
		})
	}
}

// startAttacked starts the program with few descriptors, and with TLS where there is a
// password.
func startAttacked(t *testing.T, password string) *attacked {
	t.Helper()
	d := &attacked{t: t, log: &porttest.Log{}}
	dir := t.TempDir()
	config := filepath.Join(dir, "port_exporter.yml")
	if err := os.WriteFile(config, []byte("targets: [{address: \"127.0.0.1:1\"}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", `ulimit -n "$0"; exec port_exporter "$@"`, fmt.Sprint(attackDescriptors),
		"--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle", "--config.file=" + config}
	if password != "" {
		args = append(args, "--web.config.file="+d.withPassword(dir, password))
	}
	cmd := exec.Command("sh", args...)
	cmd.Stderr = d.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
		if t.Failed() {
			text := d.log.String()
			t.Logf("the end of its log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	d.address = awaitAddress(t, d.log)
	return d
}

// withPassword writes a configuration of the server with TLS and basic authentication.
func (d *attacked) withPassword(dir, password string) (file string) {
	d.t.Helper()
	certificate := porttest.SelfSigned(d.t)
	porttest.WritePEM(d.t, filepath.Join(dir, "pem"), certificate)
	d.tls = &tls.Config{RootCAs: x509.NewCertPool(), NextProtos: []string{"http/1.1"}}
	d.tls.RootCAs.AddCert(certificate.Leaf)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		d.t.Fatal(err)
	}
	file = filepath.Join(dir, "web.yml")
	text := "tls_server_config: {cert_file: pem, key_file: pem}\nbasic_auth_users: {prometheus: " + string(hash) + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return file
}

// client returns Prometheus' own: with connections that it keeps, or one for each
// scrape.
func (d *attacked) client(keep bool) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(prometheusAddress)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: !keep, TLSClientConfig: d.tls.Clone(), ForceAttemptHTTP2: true}
	if d.tls != nil {
		transport.TLSClientConfig.NextProtos = nil
	}
	return &http.Client{Transport: transport}
}

// scrape returns a scrape of Prometheus. It has as much time as there can be: the
// attackers, and other tests, take the processors.
func (d *attacked) scrape(client *http.Client, password string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	scheme := "http://"
	if d.tls != nil {
		scheme = "https://"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+d.address+"/metrics", nil)
	if err != nil {
		return "", err
	}
	r.SetBasicAuth("prometheus", password)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "60")
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return string(body), err
}

// scrapeEachSecond scrapes until ctx ends, and checks each scrape.
func (d *attacked) scrapeEachSecond(ctx context.Context, password string) {
	clients := []*http.Client{d.client(true), d.client(false)}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var slowest time.Duration
	scrapes := 0
	for ; ctx.Err() == nil; scrapes++ {
		began := time.Now()
		body, err := d.scrape(clients[scrapes%len(clients)], password)
		if err != nil {
			d.t.Errorf("scrape %d, after %v: %v", scrapes, time.Since(began), err)
		} else if missing := missingOf(body); missing != "" {
			d.t.Errorf("scrape %d lacks %s", scrapes, missing)
		}
		slowest = max(slowest, time.Since(began))
		select {
		case <-second.C:
		case <-ctx.Done():
		}
	}
	d.t.Logf("%d scrapes, the slowest took %v, beside %d connections of attackers", scrapes, slowest, d.opened.Load())
	if scrapes < 2 || d.opened.Load() <= attackDescriptors {
		d.t.Errorf("%d scrapes beside %d connections prove nothing", scrapes, d.opened.Load())
	}
}

// missingOf returns what a scrape that is whole would have, and this one has not.
func missingOf(body string) string {
	for _, want := range []string{"port_listener_info{", "port_sockets{", "probe_outcome_code{", "process_open_fds "} {
		if !strings.Contains(body, "\n"+want) {
			return want
		}
	}
	if i := strings.Index(body, `"} 0`+"\n"); i >= 0 && strings.Contains(body[max(0, i-60):i], "port_scrape_collector_success") {
		return "a collector"
	}
	return ""
}

// recovers checks what the attack left behind.
func (d *attacked) recovers(password string) {
	client := d.client(false)
	fds, memory := regexp.MustCompile(`(?m)^process_open_fds (\d+)$`), regexp.MustCompile(`(?m)^process_resident_memory_bytes (\S+)$`)
	var body string
	porttest.Await(d.t, "the connections of the attack to be gone", func() bool {
		var err error
		body, err = d.scrape(client, password)
		m := fds.FindStringSubmatch(body)
		return err == nil && m != nil && len(m[1]) < 3 && m[1] < "60"
	})
	resident := 0.0
	if m := memory.FindStringSubmatch(body); m != nil {
		_, _ = fmt.Sscan(m[1], &resident)
	}
	lines := strings.Count(d.log.String(), "\n")
	d.t.Logf("%.0f MB are resident, %d lines were logged", resident/1e6, lines)
	if resident > 250e6 {
		d.t.Errorf("%v bytes are resident", resident)
	}
	if most := 200 + 100*int(attackTime.Minutes()); lines > most {
		d.t.Errorf("%d lines were logged, and %d are plenty", lines, most)
	}
}

// endpoints are what is attacked.
func attackedEndpoints() []string {
	return []string{"/metrics", "/", "/config", "/sd/probes", "/sd/listeners", "/probe?module=tcp_connect&target=127.0.0.1:1", "/logs?id=1", "/-/healthy", "/-/reload", "/nope"}
}

// attack keeps every attack going on every endpoint until ctx ends.
func (d *attacked) attack(ctx context.Context) {
	var all sync.WaitGroup
	again := func(attack func(ctx context.Context, conn net.Conn) error) {
		all.Go(func() {
			for ctx.Err() == nil {
				d.once(ctx, attack)
			}
		})
	}
	for _, path := range attackedEndpoints() {
		for _, attack := range attacks(path) {
			again(attack)
		}
		if d.tls != nil {
			again(streams(path, d.address))
		}
	}
	for range attackDescriptors { // as many as the daemon has descriptors, and never a word
		again(idle)
	}
	for i := range 4 {
		again(sending(fmt.Sprintf("GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Basic %s\r\n\r\n", []string{"eDp5", "cHJvbWV0aGV1czp4", "eDp6", "!"}[i]), "", 0))
	}
	all.Wait()
}

// once makes one attack on a connection of its own.
func (d *attacked) once(ctx context.Context, attack func(ctx context.Context, conn net.Conn) error) {
	defer func() { // not at the pace of a processor: the daemon shares it
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}()
	conn, err := d.dial(ctx, attackerAddress)
	if err != nil {
		return
	}
	d.opened.Add(1)
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = attack(ctx, conn)
}

// dial opens a connection from an address. With TLS the handshake comes with the first
// byte, so an attack that sends none leaves it out.
func (d *attacked) dial(ctx context.Context, from string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	_ = conn.(*net.TCPConn).SetLinger(0)
	if d.tls == nil {
		return conn, nil
	}
	config := d.tls.Clone()
	config.ServerName, config.NextProtos = "server.test", []string{"h2", "http/1.1"}
	return tls.Client(conn, config), nil
}

// attacks returns the attacks on a path over HTTP/1.1.
func attacks(path string) []func(context.Context, net.Conn) error {
	const timeout = "X-Prometheus-Scrape-Timeout-Seconds: 600\r\n"
	get := "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + timeout
	post := "POST " + path + " HTTP/1.1\r\nHost: a\r\n" + timeout
	pipelined := strings.Repeat(get+"\r\n", 100)
	return []func(context.Context, net.Conn) error{
		sending(get, "X-Slow: header\r\n", time.Second),
		sending(get+"X-Huge: "+strings.Repeat("x", 1<<20), "", 0),
		sending(get+strings.Repeat("X-Many: x\r\n", 50_000), "", 0),
		sending(get+"Content-Length: 5\r\n\r\n", "", 0),
		sending(get+"Content-Length: 1000000\r\n\r\n", "x", time.Second),
		sending(get+"Transfer-Encoding: chunked\r\n\r\n5\r\nx", "", 0),
		sending(post+"Content-Length: 1000000\r\n\r\n", "x", time.Second),
		sending(post+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", time.Second),
		sending(pipelined, "", 0), // and reads nothing
		dripping(pipelined),
	}
}

// sending sends a text and then another again and again, and reads nothing.
func sending(text, then string, every time.Duration) func(context.Context, net.Conn) error {
	return func(ctx context.Context, conn net.Conn) error {
		if _, err := io.WriteString(conn, text); err != nil {
			return err
		}
		if then == "" {
			return gone(ctx, conn)
		}
		for {
			if _, err := io.WriteString(conn, then); err != nil {
				return err
			}
			time.Sleep(every)
		}
	}
}

// gone waits for the server to close a connection, without reading more than a byte a
// second of what it sends.
func gone(ctx context.Context, conn net.Conn) error {
	for ctx.Err() == nil {
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	return ctx.Err()
}

// dripping sends requests and reads the answers a few bytes a second.
func dripping(text string) func(context.Context, net.Conn) error {
	return func(ctx context.Context, conn net.Conn) error {
		if _, err := io.WriteString(conn, text); err != nil {
			return err
		}
		for ctx.Err() == nil {
			if _, err := conn.Read(make([]byte, 100)); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return ctx.Err()
	}
}

// idle sends nothing, not even the beginning of a handshake.
func idle(ctx context.Context, conn net.Conn) error {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	return gone(ctx, conn)
}

// streams opens streams of HTTP/2 that read nothing, then resets and pings without end.
func streams(path, authority string) func(context.Context, net.Conn) error {
	return func(ctx context.Context, conn net.Conn) error {
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			return err
		}
		framer := http2.NewFramer(conn, conn)
		if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
			return err
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		var block bytes.Buffer
		headers := hpack.NewEncoder(&block)
		for id := uint32(1); ctx.Err() == nil; id += 2 {
			block.Reset()
			for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", path}, {":authority", authority}, {"x-prometheus-scrape-timeout-seconds", "600"}, {"x-long", strings.Repeat("x", 8000)}} {
				_ = headers.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			}
			err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: id%4 == 1})
			if err == nil && id%10 == 1 {
				err = errors.Join(framer.WriteRSTStream(id, http2.ErrCodeCancel), framer.WritePing(false, [8]byte{}), framer.WriteSettings())
			}
			if err != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return ctx.Err()
	}
}

// wait has clients without a password keep a connection, each in its own way. None
// can for longer than 15 s, and some seconds of a machine that is busy.
func (d *attacked) wait(ctx context.Context) {
	var all sync.WaitGroup
	for name, attack := range map[string]func(context.Context, net.Conn) error{
		"silent":            idle,
		"slow header":       sending("GET / HTTP/1.1\r\nHost: a\r\n", "X-Slow: header\r\n", time.Second),
		"slow body":         sending("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", "x", time.Second),
		"refused each time": sending("", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", time.Second),
		"streams":           streams("/", d.address),
	} {
		all.Go(func() {
			conn, err := d.dial(ctx, patientAddress)
			if err != nil {
				d.t.Errorf("%s: %v", name, err)
				return
			}
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			began := time.Now()
			err = attack(ctx, conn)
			if took := time.Since(began); took > 19*time.Second || ctx.Err() != nil && *attackTime > 19*time.Second {
				d.t.Errorf("%s: a client without a password kept its connection for %v: %v", name, took, err)
			}
		})
	}
	all.Wait()
}
