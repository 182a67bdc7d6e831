package runtimestest_test

import (
	"path/filepath"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestPodman has a container with published ports, another in its namespace, a pod of two,
// and one in the namespace of the host.
func TestPodman(t *testing.T) {
	h := newHost(t)
	podman, lax := porttest.Program(t, "SKIP-podman", "podman"), porttest.Program(t, "SKIP-runc", "lax")
	t.Setenv("CONTAINERS_CONF", write(t, filepath.Join(t.TempDir(), "containers.conf"),
		"[containers]\npids_limit = 0\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n[network]\nnetwork_backend = \"netavark\"\n"))
	do := func(args ...string) string { return run(t, append([]string{podman, "--runtime=" + lax}, args...)...) }
	root := rootfs(t)
	do("load", "--quiet", "--input", image(t, root, "web", `"/bin/httpd", "-f", "-p"`))
	do("load", "--quiet", "--input", image(t, root, "pause", `"/bin/sleep", "100000"`))
	t.Cleanup(func() {
		do("rm", "--force", "--time=0", "--all")
		do("pod", "rm", "--force", "--all")
	})

	web := do("run", "--detach", "--name=web", "--publish=18080:8080", "--publish=127.0.0.1:18081:8080", "localhost/web:1", "0.0.0.0:8080")
	side := do("run", "--detach", "--name=side", "--network=container:web", "localhost/web:1", "127.0.0.1:8081")
	onHost := do("run", "--detach", "--name=onhost", "--network=host", "localhost/web:1", "127.0.0.1:8082")
	do("pod", "create", "--name=shop", "--share-parent=false", "--infra-image=localhost/pause:1", "--publish=18090:8090")
	first := do("run", "--detach", "--name=first", "--pod=shop", "localhost/web:1", "[::]:8090")
	second := do("run", "--detach", "--name=second", "--pod=shop", "localhost/web:1", "127.0.0.1:8091")

	inspect := func(name, field string) string { return do("inspect", "--format={{"+field+"}}", name) }
	infra := do("pod", "inspect", "--format={{.InfraContainerID}}", "shop")
	webPID, podPID := number(t, inspect("web", ".State.Pid")), number(t, inspect("first", ".State.Pid"))
	name := func(id string) string { return "podman-" + id[:12] }
	address, podAddress := inspect("web", ".NetworkSettings.IPAddress"), inspect(infra, ".NetworkSettings.IPAddress")
	host := space{
		Listeners: []string{
			"tcp 127.0.0.1:8082 loopback httpd root  " + name(onHost),
			"tcp 0.0.0.0:18080 any conmon root  ", "tcp 127.0.0.1:18081 loopback conmon root  ", "tcp 0.0.0.0:18090 any conmon root  ",
		},
		Published: []string{
			"tcp any:18080 to " + address + ":8080 dnat", "tcp 127.0.0.1:18081 to " + address + ":8080 dnat", "tcp any:18090 to " + podAddress + ":8090 dnat",
		},
	}
	alone := space{
		Info:      map[string]string{"runtime": "podman", "container_id": web, "container": "web"},
		Listeners: []string{"tcp 0.0.0.0:8080 any httpd root  " + name(web), "tcp 127.0.0.1:8081 loopback httpd root  " + name(side)},
	}
	pod := space{
		Info:      map[string]string{"runtime": "podman", "container_id": infra, "container": inspect(infra, ".Name")},
		Listeners: []string{"tcp [::]:8090 any httpd root  " + name(first), "tcp 127.0.0.1:8091 loopback httpd root  " + name(second)},
	}
	sameAsKernel(t, webPID, alone)
	sameAsKernel(t, podPID, pod)
	sameAsKernel(t, 0, host)
	h.expect(t, map[string]space{"": host, name(web): alone, name(infra): pod})
	h.ends(t, webPID, func() {
		do("rm", "--force", "--time=0", "side", "onhost")
		do("rm", "--force", "--time=0", "web")
	})
	h.ends(t, podPID, func() { do("pod", "rm", "--force", "--time=0", "shop") })
	h.expect(t, map[string]space{"": {}})
}
