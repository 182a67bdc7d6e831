package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestUnitsInNamespace starts the unit alone and with each of its drop-ins, in a
// systemd that has booted, beside a service of another user: what the exporter sees,
// and what its sandbox lets through. A file that is not valid fails systemctl reload.
func TestUnitsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	host := bootUnits(t)
	// No group may ping, as the kernel has it at first, so CAP_NET_RAW is for pings.
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("1 0"), 0); err != nil {
		t.Fatal(err)
	}
	const owners = 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_DAC_READ_SEARCH
	tests := []struct {
		name, dropIn string
		sight        sight
	}{
		{"plain", "", sight{Process: "systemd-socket-activate", Capabilities: owners}},
		{"unprivileged", readDropIn(t, "unprivileged.conf"), sight{Missing: []string{"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "pid_namespace"}}},
		{"namespaces", readDropIn(t, "namespaces.conf"), sight{
			Process: "systemd-socket-activate", Capabilities: owners | 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON, Open: []string{"bpf"},
		}},
		{"namespaces by sock_diag", readDropIn(t, "namespaces-sock_diag.conf"), sight{
			Process: "systemd-socket-activate", Capabilities: owners | 1<<unix.CAP_SYS_ADMIN, Open: []string{"setns"},
		}},
		{"pings", readDropIn(t, "pings.conf"), sight{Process: "systemd-socket-activate", Capabilities: owners | 1<<unix.CAP_NET_RAW, Pings: true}},
		// No drop-in of ours: what its capabilities open is its own user namespace.
		{"user namespace", "[Service]\nPrivateUsers=yes\n", sight{
			Capabilities: owners, Missing: []string{"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "pid_namespace", "user_namespace"},
		}},
	}
	for _, tt := range tests {
		host.configure(t, tt.dropIn)
		host.systemctl(t, "restart", "port_exporter.service")
		tt.sight.Unit = "px-web.service"
		if tt.name != "user namespace" { // in which other users have no name
			tt.sight.User = "pxweb"
		}
		if diff := cmp.Diff(tt.sight, host.look(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	host.reload(t)
	host.activate(t)
}

// sight is what an exporter shows of a service of another user, and what its sandbox
// lets through.
type sight struct {
	Process, User, Unit string
	Missing             []string // privileges
	Capabilities        uint64
	Pings               bool
	Open                []string // of what only a drop-in opens
}

const (
	unitsConfig = "/etc/port_exporter/port_exporter.yml"
	pingTarget  = "targets:\n  - address: 127.0.0.1\n    module: icmp\n"
)

func bootUnits(t *testing.T) booted {
	t.Helper()
	host := boot(t, "--overlay-ro=/usr/bin:"+porttest.OpenProgram(t)+":/usr/bin", "--system-call-filter=bpf @privileged")
	// For an exporter the systemd is a container, whose root is the host's all the same.
	host.write(t, "/etc/default/port_exporter", `ARGS="--config.file=`+unitsConfig+` --path.rootfs=/"`)
	host.write(t, unitsConfig, pingTarget)
	return host
}

func readDropIn(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("packaging/systemd/port_exporter.service.d", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// configure gives the unit one drop-in, and a second unit of the same sandbox that
// tries what the sandbox refuses.
func (h booted) configure(t *testing.T, dropIn string) {
	t.Helper()
	unit := unitText(t, nil)
	trial := regexp.MustCompile(`(?m)^(Type|Exec\w+|Restart)=.*$`).ReplaceAllString(unit, "")
	trial = strings.Replace(trial, "[Service]", `[Service]
Type=oneshot
StandardOutput=append:/run/tried
StandardError=null
ExecStart=-/usr/bin/nsenter --net=/proc/1/ns/net echo setns 0
ExecStart=/usr/bin/knock`, 1)
	for name, text := range map[string]string{"port_exporter.service": unit, "trial.service": trial} {
		h.write(t, "/etc/systemd/system/"+name, text)
		h.write(t, "/etc/systemd/system/"+name+".d/test.conf", dropIn)
	}
	h.systemctl(t, "daemon-reload")
}

// look returns what the exporter that runs shows.
func (h booted) look(t *testing.T) sight {
	t.Helper()
	porttest.AwaitListening(t, porttest.ScrapeAddress)
	_, body := porttest.Get(t, porttest.ScrapeAddress, "/metrics")
	got := sight{Pings: strings.Contains(body, `probe_success{module="icmp",target="127.0.0.1",target_name=""} 1`)}
	info := regexp.MustCompile(`(?m)^port_listener_info\{.*port="8080",process="(.*?)".*,unit="(.*?)",user="(.*?)"\} 1$`).FindStringSubmatch(body)
	if info == nil {
		t.Fatal("no listener on port 8080")
	}
	got.Process, got.Unit, got.User = info[1], info[2], info[3]
	for _, m := range regexp.MustCompile(`(?m)^port_privilege_missing\{privilege="(.*)"\} 1$`).FindAllStringSubmatch(body, -1) {
		got.Missing = append(got.Missing, m[1])
	}
	slices.Sort(got.Missing)
	got.Capabilities = h.capabilities(t)
	got.Open = h.tried(t)
	return got
}

// capabilities are those that the exporter has.
func (h booted) capabilities(t *testing.T) (effective uint64) {
	t.Helper()
	status, err := os.ReadFile(h.path("/proc/" + h.mainPID(t) + "/status"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^CapEff:\s*(\w+)$`).FindSubmatch(status)
	if effective, err = strconv.ParseUint(string(m[1]), 16, 64); err != nil {
		t.Fatal(err)
	}
	return effective
}

// tried are the doors that are open in the sandbox, and whether a network namespace
// can be entered.
func (h booted) tried(t *testing.T) (open []string) {
	t.Helper()
	results := h.path("/run/tried")
	_ = os.Remove(results) // there is none at first
	h.systemctl(t, "start", "trial.service")
	text, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, errno, _ := strings.Cut(strings.TrimSpace(line), " "); errno != strconv.Itoa(int(unix.EPERM)) {
			open = append(open, name)
		}
	}
	if knocks := strings.Count(string(text), "\n"); knocks < len(doors()) {
		t.Errorf("%d doors of %d were tried", knocks, len(doors()))
	}
	slices.Sort(open)
	return open
}

// reload reloads a file that is not valid, and one that is.
func (h booted) reload(t *testing.T) {
	t.Helper()
	h.configure(t, "")
	h.systemctl(t, "restart", "port_exporter.service")
	porttest.AwaitListening(t, porttest.ScrapeAddress)
	h.write(t, unitsConfig, pingTarget+"limits:\n  listener: 3\n")
	if out, err := h.command("systemctl", "reload", "port_exporter.service").CombinedOutput(); err == nil {
		t.Errorf("a broken file is reloaded: %s", out)
	}
	status, _ := h.command("systemctl", "--no-pager", "--full", "status", "port_exporter.service").CombinedOutput() // 3 is no failure of it
	for _, want := range []string{"Active: active", "line 5: limits.listener: unknown key", `hint: did you mean "listeners"?`} {
		if !strings.Contains(string(status), want) {
			t.Errorf("systemctl status lacks %q:\n%s", want, status)
		}
	}
	if got := porttest.Scrape(t, "port_config_"); got["port_config_targets"] != 1 || got["port_config_last_reload_successful"] != 1 {
		t.Errorf("after a reload that the check refused: %v", got)
	}
	h.write(t, unitsConfig, pingTarget+"  - address: 127.0.0.2\n    module: icmp\n")
	h.systemctl(t, "reload", "port_exporter.service")
	porttest.Await(t, "the second target", func() bool { return porttest.Scrape(t, "port_config_targets")["port_config_targets"] == 2 })
}

// activate has systemd open the port: the exporter starts with the first scrape.
func (h booted) activate(t *testing.T) {
	t.Helper()
	socket, err := os.ReadFile("packaging/systemd/port_exporter.socket")
	if err != nil {
		t.Fatal(err)
	}
	h.systemctl(t, "stop", "port_exporter.service")
	h.write(t, "/etc/systemd/system/port_exporter.socket", string(socket))
	h.configure(t, readDropIn(t, "socket-activation.conf"))
	h.systemctl(t, "start", "port_exporter.socket")
	if out, err := h.command("systemctl", "is-active", "port_exporter.service").CombinedOutput(); err == nil {
		t.Errorf("before a scrape the service is %s", out)
	}
	want := map[string]float64{
		`port_listener_info{address="::",container="",dual_stack="true",ephemeral="false",port="10065",process="port_exporter",protocol="tcp",scope="any",unit="",user="port_exporter"}`: 1,
	}
	got := porttest.Scrape(t, `port_listener_info{address="::"`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("with the port of systemd (-want +got):\n%s", diff)
	}
	h.systemctl(t, "is-active", "port_exporter.service")
}
