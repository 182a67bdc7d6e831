package runtimestest_test

import (
	"os/exec"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// dockerAt is the command of docker, where a daemon answers.
type dockerAt string

func (d dockerAt) run(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, append([]string{string(d), "--host=unix:///run/docker.sock"}, args...)...)
}

// startDocker starts a daemon, with an image.
func startDocker(t *testing.T, args ...string) dockerAt {
	t.Helper()
	dockerd := porttest.Program(t, "SKIP-docker", "dockerd", "/usr/sbin/dockerd")
	d := dockerAt(porttest.Program(t, "SKIP-docker", "/usr/bin/docker"))
	porttest.Start(t, exec.Command(dockerd, append([]string{"--host=unix:///run/docker.sock", "--exec-opt=native.cgroupdriver=cgroupfs", //nolint:gosec // of the test
		"--add-runtime=lax=" + porttest.Program(t, "SKIP-runc", "lax"), "--default-runtime=lax"}, args...)...))
	porttest.Await(t, "docker to answer", func() bool {
		return exec.Command(string(d), "--host=unix:///run/docker.sock", "version").Run() == nil //nolint:gosec // of the test
	})
	d.run(t, "load", "--input", image(t, rootfs(t), "web", `"/bin/httpd", "-f", "-p"`))
	return d
}

// TestDocker publishes ports by docker's proxy and its rules, and by its rules alone. A
// second container shares the namespace of the first, a third that of the host.
func TestDocker(t *testing.T) {
	for name, args := range map[string][]string{"proxy": nil, "rules alone": {"--userland-proxy=false"}} {
		t.Run(name, func(t *testing.T) { testDocker(t, args...) })
	}
}

func testDocker(t *testing.T, args ...string) {
	h := newHost(t)
	d := startDocker(t, args...)
	web := d.run(t, "run", "--detach", "--name=web", "--publish=18080:8080", "--publish=127.0.0.1:18081:8080", "--publish=53:53/udp", "localhost/web:1", "0.0.0.0:8080")
	side := d.run(t, "run", "--detach", "--name=side", "--network=container:web", "localhost/web:1", "127.0.0.1:8081")
	onHost := d.run(t, "run", "--detach", "--name=onhost", "--network=host", "localhost/web:1", "127.0.0.1:8082")
	pid := number(t, d.run(t, "inspect", "--format={{.State.Pid}}", "web"))
	address := d.run(t, "inspect", "--format={{.NetworkSettings.IPAddress}}", "web")
	name := func(id string) string { return "docker-" + id[:12] }

	host := space{Listeners: []string{"tcp 127.0.0.1:8082 loopback httpd root  " + name(onHost)}, Published: []string{
		"tcp any:18080 to " + address + ":8080 dnat", "tcp 127.0.0.1:18081 to " + address + ":8080 dnat", "udp any:53 to " + address + ":53 dnat",
	}}
	ports := []string{"tcp 0.0.0.0:18080 any", "tcp 127.0.0.1:18081 loopback", "udp 0.0.0.0:53 any"}
	opener := "dockerd" // which holds the ports that its rules publish
	if len(args) == 0 {
		ports, opener = append(ports, "tcp [::]:18080 any", "udp [::]:53 any"), "docker-proxy"
	}
	for _, port := range ports {
		host.Listeners = append(host.Listeners, port+" "+opener+" root  ")
	}
	container := space{
		Info:      map[string]string{"runtime": "docker", "container_id": web, "container": "web"},
		Listeners: []string{"tcp 0.0.0.0:8080 any httpd root  " + name(web), "tcp 127.0.0.1:8081 loopback httpd root  " + name(side)},
	}
	sameAsKernel(t, pid, container)
	sameAsKernel(t, 0, host)
	h.expect(t, map[string]space{"": host, name(web): container})
	h.ends(t, pid, func() { d.run(t, "rm", "--force", "side", "web", "onhost") })
	h.expect(t, map[string]space{"": {}})
}
