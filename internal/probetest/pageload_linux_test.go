package probetest_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// pageConfig is the configuration of the host that the page is looked at on; %s has more
// targets. A change of this file needs new pictures: make pictures.
const pageConfig = `
modules:
  quick: {prober: tcp, timeout: 300ms}
policy:
  rules:
    - {name: web, ports: 443, process: nginx}
    - {name: ssh, ports: 22, process: sshd}
    - {name: time, protocol: udp, ports: 123}
    - {name: database, ports: 5432, scope: loopback, process: postgres, required: true}
    - {name: cache, ports: 6379, scope: loopback}
    - {name: workers, ports: 9000, process: gunicorn}
    - {name: exporter, ports: 10065}
    - {name: mail, ports: 25, required: true, comment: mail of the applications}
    - {name: no telnet, ports: 23, forbid: true}
targets:
  - {address: "127.0.0.1:6379", name: cache, module: quick}
  - {address: "127.0.0.1:5432", name: database, module: quick}
  - {address: "127.0.0.1:22", name: ssh, module: quick}
  - {address: "127.0.0.1:25", name: mail, module: quick}
  - {address: "192.0.2.9:5672", name: message broker, module: quick}
  - {address: "127.0.0.1:9000", name: workers, module: quick}
  - {address: "http://127.0.0.1:8081/health", name: application}
%s`

// service lets a program of that name and user hold a socket, which the test leaves.
func service(t *testing.T, socket int, name, username string) {
	t.Helper()
	file := os.NewFile(uintptr(porttest.Dup(t, socket)), name)
	defer file.Close()
	porttest.Close(t, socket)
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(porttest.OpenDir(t), name)
	porttest.WriteProgram(t, program, sleep)
	as := &syscall.Credential{Uid: 65534, Gid: 65534}
	if u, err := user.Lookup(username); err == nil {
		uid, _ := strconv.Atoi(u.Uid)
		as.Uid = uint32(uid)
	}
	cmd := exec.Command(program, "1h")
	cmd.ExtraFiles, cmd.SysProcAttr = []*os.File{file}, &syscall.SysProcAttr{Credential: as}
	porttest.Start(t, cmd)
}

// openPageLoad makes a host with something of all that the page shows: a listener that
// nothing expects, a full queue, leftovers in several states, a destination that uses
// most of the ephemeral ports, a host that does not answer.
func openPageLoad(t *testing.T) {
	t.Helper()
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth0", "192.0.2.1/24")
	porttest.SilentNeighbour(t, "eth0", "192.0.2.9")
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "50000 50099")

	nginx := porttest.Listen(t, "0.0.0.0:443", 511)
	for range 12 { // the clients have closed, and the service has not
		client := porttest.Dial(t, "127.0.0.1:443")
		porttest.Accept(t, nginx)
		porttest.CloseWrite(t, client)
	}
	for range 31 { // the service closes first
		client, server := porttest.Dial(t, "127.0.0.1:443"), porttest.Accept(t, nginx)
		porttest.Close(t, server)
		porttest.Close(t, client)
	}
	postgres := porttest.Listen(t, "127.0.0.1:5432", 200)
	for range 83 {
		porttest.Dial(t, "127.0.0.1:5432")
		porttest.Accept(t, postgres)
	}
	gunicorn := porttest.Listen(t, "127.0.0.1:9000", 2)
	for range 4 {
		porttest.StartDial(t, "127.0.0.1:9000")
	}
	for range 3 {
		porttest.StartDial(t, "192.0.2.9:5672")
	}
	service(t, nginx, "nginx", "www-data")
	service(t, postgres, "postgres", "postgres")
	service(t, gunicorn, "gunicorn", "www-data")
	service(t, porttest.Listen(t, "[::]:22", 128), "sshd", "root")
	service(t, porttest.Listen(t, "192.0.2.1:8080", 5), "python3", "nobody")
	service(t, porttest.Listen(t, "127.0.0.1:6379", 511), "redis-server", "redis")
	service(t, porttest.UDP(t, "0.0.0.0:123"), "chronyd", "_chrony")
}

// startPage starts the exporter on a host of that name, and probes its targets a few
// times.
func startPage(t *testing.T, targets string) {
	t.Helper()
	file := write(t, pageConfig, targets)
	porttest.StartDaemonAs(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS},
		"sh", "-c", `hostname web-1; exec "$@"`, "sh", "port_exporter", "--config.file="+file)
	for range 4 {
		send(t, "/metrics?collect[]=probes&collect[]=listeners", "10")()
	}
}

// pageAddress is the page, with parameters.
func pageAddress(query string) string {
	return fmt.Sprintf("http://%s/%s", porttest.ScrapeAddress, query)
}
