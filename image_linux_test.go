package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

var imagesDir = flag.String("images", "", "folder with the arm64 programs of the images that docker, of make e2e-image, has")

// aServer is a listener of the host: a service of the user www-data, whose uid Debian
// fixes.
const aServer = "systemd-socket-activate"

// TestImageInNamespace runs each command of docs/container.md. The host, which is this
// machine in the network namespace of the test, has a service of its own user. make
// e2e-image runs it.
func TestImageInNamespace(t *testing.T) {
	docker := newDocker(t)
	porttest.Namespace(t)
	porttest.NewCgroup(t, "system.slice/web.service").Do(t, func() {
		cmd := exec.Command(porttest.Program(t, "SKIP-SYSTEMD", aServer), "--accept", "--listen=127.0.0.1:8080", "/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 33, Gid: 33}}
		porttest.Start(t, cmd)
	})
	porttest.AwaitListening(t, "127.0.0.1:8080")
	policy := docker.hostPolicy(t)

	// Not in t.Run, whose goroutine is on a thread outside of the namespace.
	docker.unprivileged(t)
	docker.allOwners(t)
	docker.policyOfHost(t, policy)
	docker.withoutEngine(t)
	docker.unhealthy(t)
}

func (d docker) unprivileged(t *testing.T) {
	defer d.remove(t)
	d.section(t, "Without privileges")
	d.exports(t, `process="".*unit="web.service",user="www-data"`)
	d.status(t, "Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2")
	d.healthy(t)
}

func (d docker) allOwners(t *testing.T) {
	defer d.remove(t)
	out := d.section(t, "All owners")
	if !strings.Contains(out, aServer) {
		t.Errorf("the table of listeners lacks %s:\n%s", aServer, out)
	}
	if text, err := os.ReadFile(filepath.Join(d.dir, "policy.yml")); err != nil || !strings.Contains(string(text), "user: www-data") {
		t.Errorf("%v, the policy that the container wrote is:\n%s", err, text)
	}
	d.exports(t, `process="`+aServer+`".*unit="web.service",user="www-data"`)
	d.status(t, "CapEff:\t0000000000080004", "NoNewPrivs:\t1", "Seccomp:\t2")
	d.healthy(t)
}

func (d docker) policyOfHost(t *testing.T, policy string) {
	defer d.remove(t)
	d.section(t, "Configuration")
	got := porttest.Scrape(t, "port_policy_unexpected_listener", "port_policy_unverified_listeners", "port_config_policy_rules")
	if got["port_config_policy_rules"] == 0 || len(porttest.NonZero(got)) != 1 {
		t.Errorf("by a policy that the host wrote: %v", got)
	}
	if err := os.WriteFile(d.config, []byte(policy+aTarget), 0o644); err != nil {
		t.Fatal(err)
	}
	d.run(t, d.commands(t, "Configuration")[1])
	porttest.Await(t, "the target", func() bool { return porttest.Scrape(t, "port_config_targets")["port_config_targets"] == 1 })
}

func (d docker) withoutEngine(t *testing.T) {
	defer d.remove(t)
	d.run(t, "docker run --detach --name port_exporter --network host --pid host --read-only --user 0 --cap-drop ALL --cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH --volume /etc/passwd:/host/etc/passwd:ro port_exporter:crane --path.rootfs=/host")
	d.exports(t, `process="`+aServer+`".*user="www-data"`)
}

func (d docker) unhealthy(t *testing.T) {
	defer d.remove(t)
	d.run(t, "docker run --detach --name port_exporter --network host --read-only --cap-drop ALL port_exporter --web.listen-address=127.0.0.1:9999")
	porttest.AwaitListening(t, "127.0.0.1:9999")
	if out, err := d.bash("docker healthcheck run port_exporter").CombinedOutput(); err == nil {
		t.Errorf("it is healthy without a listener on 10065: %s", out)
	}
}

// docker runs what a page calls docker.
type docker struct{ dir, page, config string }

func newDocker(t *testing.T) docker {
	t.Helper()
	if *imagesDir == "" {
		t.Skip("SKIP-IMAGE: make e2e-image builds it")
	}
	page, err := os.ReadFile("docs/container.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// The user of the container, whoever that is, reads the configuration.
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return docker{dir, string(page), filepath.Join(dir, "port_exporter.yml")}
}

// hostPolicy writes the policy of the host's own exporter for the configuration, and
// returns it.
func (d docker) hostPolicy(t *testing.T) string {
	t.Helper()
	out, said, status := porttest.EndedAs(t, nil, "port_exporter", "baseline")
	if status != 0 || !strings.Contains(out, "user: www-data") {
		t.Fatalf("status %d, said %s:\n%s", status, said, out)
	}
	policy := out + "    - {name: exporter, ports: 10065}\n"
	if err := os.WriteFile(d.config, []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	return policy
}

// commands are the blocks of commands below a heading of the page. The configuration is
// in the test's folder.
func (d docker) commands(t *testing.T, heading string) []string {
	t.Helper()
	_, section, ok := strings.Cut(d.page, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("the page has no section %s", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		// The folder on the host, before the colon, is the test's.
		blocks = append(blocks, strings.ReplaceAll(block[1], "/etc/port_exporter:/", d.dir+":/"))
	}
	if len(blocks) == 0 {
		t.Fatalf("the section %s has no commands", heading)
	}
	return blocks
}

// section runs the first block of a section, waits for the exporter, and runs the
// commands of the second one in its container, if there are any. It returns their output.
func (d docker) section(t *testing.T, heading string) (out string) {
	t.Helper()
	blocks := d.commands(t, heading)
	start, then, _ := strings.Cut(blocks[0], "\ndocker exec")
	d.run(t, start)
	porttest.AwaitListening(t, porttest.ScrapeAddress)
	if then != "" {
		out = d.run(t, "docker exec"+then)
	}
	if len(blocks) > 1 && strings.HasPrefix(blocks[1], "docker exec") {
		out += d.run(t, blocks[1])
	}
	return out
}

func (d docker) bash(commands string) *exec.Cmd {
	cmd := exec.Command("bash", "-euc", commands)
	cmd.Dir = d.dir
	return cmd
}

func (d docker) run(t *testing.T, commands string) (out string) {
	t.Helper()
	text, err := d.bash(commands).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, text)
	}
	return string(text)
}

// remove removes the container, if there is one.
func (d docker) remove(t *testing.T) {
	t.Helper()
	if t.Failed() {
		out, _ := d.bash("docker logs port_exporter").CombinedOutput()
		t.Logf("the container says:\n%s", out)
	}
	if out, err := d.bash("docker rm --force --time 5 port_exporter").CombinedOutput(); err != nil {
		t.Errorf("docker rm: %v\n%s", err, out)
	}
}

// exports looks for the labels of the host's service.
func (d docker) exports(t *testing.T, labels string) {
	t.Helper()
	porttest.AwaitListening(t, porttest.ScrapeAddress)
	_, body := porttest.Get(t, porttest.ScrapeAddress, "/metrics")
	if !regexp.MustCompile(`port_listener_info\{.*port="8080",` + labels).MatchString(body) {
		t.Errorf("want %s, and there is\n%s", labels, regexp.MustCompile(`port_(listener_info|privilege_missing)\{.*`).FindAllString(body, -1))
	}
	if !strings.Contains(body, `,version="0.0.1"} 1`) {
		t.Errorf("it is not the version that was built: %s", regexp.MustCompile(`port_exporter_build_info\{.*`).FindString(body))
	}
}

// status compares lines of /proc/PID/status of the exporter, whose root is read-only.
func (d docker) status(t *testing.T, lines ...string) {
	t.Helper()
	pid := strings.TrimSpace(d.run(t, "docker inspect --format '{{.State.Pid}}' port_exporter"))
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("/proc/%s/status lacks %q:\n%s", pid, line, text)
		}
	}
	mounts, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil || !regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ / ro[, ]`).Match(mounts) {
		t.Errorf("%v, the root is not read-only:\n%s", err, mounts)
	}
}

// healthy runs the health check of the image, as the engine does, and asks for the result
// as the page says.
func (d docker) healthy(t *testing.T) {
	t.Helper()
	d.run(t, "docker healthcheck run port_exporter")
	if out := d.run(t, d.commands(t, "Health")[0]); strings.TrimSpace(out) != "healthy" {
		t.Errorf("after a health check that passed it is %s", out)
	}
}

// TestArm64ImageInNamespace runs the arm64 programs of the images in qemu, which
// knows no sock_diag: they read procfs.
func TestArm64ImageInNamespace(t *testing.T) {
	if *imagesDir == "" {
		t.Skip("SKIP-IMAGE: make e2e-image builds it")
	}
	programs, err := filepath.Glob(*imagesDir + "/*")
	if err != nil || len(programs) != 2 {
		t.Fatalf("want those of both builds: %v, %v", programs, err)
	}
	for _, program := range programs {
		t.Run(filepath.Base(program), func(t *testing.T) {
			qemu := porttest.Program(t, "SKIP-QEMU", "qemu-aarch64-static")
			porttest.Namespace(t)
			out, err := exec.Command(qemu, program, "--version").CombinedOutput()
			if err != nil || !regexp.MustCompile(`(?s)version 0\.0\.1 .*linux/arm64`).Match(out) {
				t.Errorf("%v, --version says %s", err, out)
			}
			porttest.Start(t, exec.Command(qemu, program, "--web.listen-address="+porttest.ScrapeAddress))
			porttest.AwaitListening(t, porttest.ScrapeAddress)
			if _, body := porttest.Get(t, porttest.ScrapeAddress, "/metrics"); !strings.Contains(body, `port_listener_info{address="127.0.0.1",container="",dual_stack="false",ephemeral="false",interface="",netns="",port="10065"`) {
				t.Errorf("it does not export itself:\n%s", regexp.MustCompile(`port_(listener|source)_info\{.*`).FindAllString(body, -1))
			}
		})
	}
}
