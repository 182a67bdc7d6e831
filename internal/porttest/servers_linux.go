package porttest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Program returns the path of the first program of several that is there, by
// name, path or pattern. Without one the test is skipped, for a reason such as
// SKIP-SERVERS.
func Program(t testing.TB, reason string, patterns ...string) string {
	t.Helper()
	for _, pattern := range patterns {
		if path, err := exec.LookPath(pattern); err == nil {
			return path
		}
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Skipf("%s: none of %v is installed", reason, patterns)
	return ""
}

// Start starts a command that ends with the test, or when stop is called. What
// it writes is shown when the test fails.
func Start(t testing.TB, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	const patience = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &output, &output, patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		// Asked to end, those that fork end what they forked; killed, they leave it.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
		err := cmd.Wait()
		if t.Failed() {
			text := output.String()
			t.Logf("%v: %v\n%s", cmd.Args, err, text[max(0, len(text)-4000):])
		}
	})
	t.Cleanup(stop)
	return stop
}

// StartReady starts a program that writes a line when it is ready, which is returned.
// The program ends with its standard input: when stop is called, or with the test.
func StartReady(t testing.TB, cmd *exec.Cmd) (line string, stop func()) {
	t.Helper()
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	if errors.Is(err, os.ErrPermission) && cmd.SysProcAttr != nil && cmd.SysProcAttr.Cloneflags != 0 {
		t.Skipf("SKIP-NAMESPACE: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	if line, err = bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return line, stop
}

// AwaitListening dials each address until something accepts, on the test's own
// goroutine. One that is a path is that of a unix-domain socket.
func AwaitListening(t testing.TB, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		network := "tcp"
		if filepath.IsAbs(address) {
			network = "unix"
		}
		Await(t, "a listener on "+address, func() bool {
			c, err := net.DialTimeout(network, address, time.Second)
			if err != nil {
				return false
			}
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // nothing stays in TIME_WAIT
			}
			return c.Close() == nil
		})
	}
}

// Nginx starts nginx with two workers, as the user that Debian runs it as. What
// it serves are the server blocks of its configuration; relative paths in them
// are in dir.
func Nginx(t testing.TB, dir, servers string) (stop func()) {
	t.Helper()
	conf := filepath.Join(dir, "nginx.conf")
	text := "daemon off; user www-data; worker_processes 2; pid pid; error_log stderr; events {}\nhttp { access_log off;\n" +
		"client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n" + servers + "}\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Start(t, exec.Command(Program(t, "SKIP-SERVERS", "nginx", "/usr/sbin/nginx"), "-c", conf, "-p", dir))
}

// Redis starts redis on 127.0.0.1:6379 and on a unix-domain socket, whose path it
// returns.
func Redis(t testing.TB) (socket string) {
	t.Helper()
	path := Program(t, "SKIP-SERVERS", "redis-server")
	as, dir := userAndDir(t, "redis")
	socket = filepath.Join(dir, "socket")
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", "6379", "--unixsocket", socket, "--dir", dir, "--save", "")
	cmd.SysProcAttr = as
	Start(t, cmd)
	return socket
}

// Postgres starts PostgreSQL on 127.0.0.1:5432, with TLS if a certificate is
// given, and returns the directory of its data.
func Postgres(t testing.TB, certificate *tls.Certificate, args ...string) (data string) {
	t.Helper()
	path := Program(t, "SKIP-SERVERS", "/usr/lib/postgresql/*/bin/postgres")
	as, data := userAndDir(t, "postgres")
	initdb := exec.Command(filepath.Join(filepath.Dir(path), "initdb"), "--no-sync", "-A", "trust", "-D", data)
	initdb.SysProcAttr, initdb.Dir = as, data
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	if certificate != nil {
		own(t, as, WritePEM(t, filepath.Join(data, "pem"), *certificate))
		args = append(args, "-c", "ssl=on", "-c", "ssl_cert_file=pem", "-c", "ssl_key_file=pem")
	}
	cmd := exec.Command(path, append([]string{"-D", data, "-h", "127.0.0.1", "-p", "5432", "-k", data}, args...)...)
	cmd.SysProcAttr, cmd.Dir = as, data
	Start(t, cmd)
	return data
}
