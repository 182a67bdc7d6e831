package runtimestest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// bundle is a container for runc. It joins the network namespace of a process, or has one
// of its own.
type bundle struct {
	id, cgroup string
	port       string // at which httpd listens
	joins      int
}

// start runs a container, and returns the pid of its process.
func (b bundle) start(t *testing.T, root string) (pid int) {
	t.Helper()
	dir := t.TempDir()
	run(t, "runc", "spec", "--bundle", dir)
	config := filepath.Join(dir, "config.json")
	if err := loosen(config); err != nil {
		t.Fatal(err)
	}
	err := edit(config, func(c map[string]any) {
		c["root"] = map[string]any{"path": root, "readonly": true}
		process := c["process"].(map[string]any)
		process["terminal"], process["args"] = false, []string{"/bin/httpd", "-f", "-p", b.port}
		linux := c["linux"].(map[string]any)
		linux["cgroupsPath"] = b.cgroup
		if b.joins == 0 {
			return
		}
		for _, of := range linux["namespaces"].([]any) {
			if n := of.(map[string]any); n["type"] == "network" {
				n["path"] = fmt.Sprintf("/proc/%d/ns/net", b.joins)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pid")
	run(t, "sh", "-c", `exec runc run --detach --bundle "$1" --pid-file "$2" "$3" </dev/null >/dev/null 2>"$1/said" || { cat "$1/said" >&2; false; }`, "sh", dir, file, b.id)
	text, err := os.ReadFile(file) //nolint:gosec // of the test
	if err != nil {
		t.Fatal(err)
	}
	return number(t, string(text))
}

// TestRunc runs containers with cgroups as runtimes and the kubelet choose them, each with
// its driver of systemd and of cgroupfs.
func TestRunc(t *testing.T) {
	h := newHost(t)
	porttest.Program(t, "SKIP-runc", "runc")
	root := rootfs(t)
	const uid = "2b0c5a1e-6f0a-4d0e-9b5c-0a1b2c3d4e5f"
	id := func(digit string) string { return strings.Repeat(digit, 64) }
	named := func(runtime, digit string) string { return runtime + "-" + id(digit)[:12] }
	listener := func(port, container string) string {
		return "tcp 0.0.0.0:" + port + " any httpd root  " + container
	}
	for name, tt := range map[string]struct {
		containers []bundle // the second joins the first
		netns      string
		want       space
	}{
		"docker, cgroupfs": {
			[]bundle{{id: id("a"), cgroup: "/docker/" + id("a")}}, named("docker", "a"),
			space{Info: map[string]string{"runtime": "docker", "container_id": id("a")}, Listeners: []string{listener("8080", named("docker", "a"))}},
		},
		"docker, systemd": {
			[]bundle{{id: id("b"), cgroup: "/system.slice/docker-" + id("b") + ".scope"}}, named("docker", "b"),
			space{Info: map[string]string{"runtime": "docker", "container_id": id("b")}, Listeners: []string{listener("8080", named("docker", "b"))}},
		},
		"a pod, cgroupfs": {
			[]bundle{{id: id("c"), cgroup: "/kubepods/burstable/pod" + uid + "/" + id("c")}, {id: id("d"), cgroup: "/kubepods/burstable/pod" + uid + "/" + id("d")}}, "pod" + uid,
			space{Info: map[string]string{"container_id": id("c"), "pod_uid": uid},
				Listeners: []string{listener("8080", "pod"+uid+"/"+named("container", "c")), listener("8081", "pod"+uid+"/"+named("container", "d"))}},
		},
		"a pod, systemd": {
			[]bundle{
				{id: id("e"), cgroup: podSlice(uid) + "/cri-containerd-" + id("e") + ".scope"},
				{id: id("f"), cgroup: podSlice(uid) + "/cri-containerd-" + id("f") + ".scope"},
			}, "pod" + uid,
			space{Info: map[string]string{"runtime": "containerd", "container_id": id("e"), "pod_uid": uid},
				Listeners: []string{listener("8080", "pod"+uid+"/"+named("containerd", "e")), listener("8081", "pod"+uid+"/"+named("containerd", "f"))}},
		},
		"a pod of CRI-O": {
			[]bundle{{id: id("1"), cgroup: podSlice(uid) + "/crio-" + id("1") + ".scope"}}, "pod" + uid,
			space{Info: map[string]string{"runtime": "crio", "container_id": id("1"), "pod_uid": uid}, Listeners: []string{listener("8080", "pod"+uid+"/"+named("crio", "1"))}},
		},
		"a pod, with containerd that expects systemd": {
			[]bundle{{id: id("2"), cgroup: "/system.slice/containerd.service/kubepods-besteffort-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice:cri-containerd:" + id("2")}}, "pod" + uid,
			space{Info: map[string]string{"runtime": "containerd", "container_id": id("2"), "pod_uid": uid, "unit": "containerd.service"},
				Listeners: []string{strings.Replace(listener("8080", "pod"+uid+"/"+named("containerd", "2")), "root  ", "root containerd.service ", 1)}},
		},
		"podman": {
			[]bundle{{id: id("3"), cgroup: "/machine.slice/libpod-" + id("3") + ".scope/container"}}, named("podman", "3"),
			space{Info: map[string]string{"runtime": "podman", "container_id": id("3")}, Listeners: []string{listener("8080", named("podman", "3"))}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			first := 0
			for i, b := range tt.containers {
				b.port, b.joins = fmt.Sprintf("0.0.0.0:%d", 8080+i), first
				pid := b.start(t, root)
				t.Cleanup(func() { run(t, "runc", "delete", "--force", b.id) })
				if first == 0 {
					first = pid
				}
			}
			sameAsKernel(t, first, tt.want)
			h.expect(t, map[string]space{"": {}, tt.netns: tt.want})
			h.ends(t, first, func() {
				for _, b := range tt.containers {
					run(t, "runc", "delete", "--force", b.id)
				}
			})
			h.expect(t, map[string]space{"": {}})
		})
	}
}

// podSlice is where systemd has a pod.
func podSlice(uid string) string {
	return "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"
}
