package owner

import (
	"strings"
	"testing"
)

const (
	id64  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	id12  = "0123456789ab"
	podID = "3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa"
)

const (
	id64B = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	id12B = "fedcba987654"
	task  = "b5d7c2e1f0a94c3d8e6f7a8b9c0d1e2f" // of ECS
	build = "q1w2e3r4t5y6u7i8o9p0asdfg"        // of BuildKit
)

// cgroupShapes are paths as hosts have them, and the unit and container in them.
func cgroupShapes() map[string][2]string {
	slice := strings.ReplaceAll(podID, "-", "_") + ".slice"
	pod := "pod" + podID + "/"
	return map[string][2]string{
		// No container.
		"":                             {},
		"/":                            {},
		"/system.slice":                {},
		"/system.slice/.service":       {},
		"/init.scope":                  {"init.scope"},
		"/system.slice/nginx.service":  {"nginx.service"},
		"/system.slice/cups.socket":    {"cups.socket"},
		"/system.slice/podman.service": {"podman.service"}, // no pod
		"/system.slice/system-getty.slice/getty@tty1.service":                       {"getty@tty1.service"},
		"/system.slice/_memory.service":                                             {"memory.service"},
		"/system.slice/ssh.service/sub/group":                                       {"ssh.service"},
		"/system.slice/run-rpc_pipefs.mount":                                        {"run-rpc_pipefs.mount"},
		"/user.slice/user-1000.slice/session-3.scope":                               {"session-3.scope"},
		"/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service": {"user@1000.service/syncthing.service"},
		"/user.slice/user-1000.slice/user@1000.service/init.scope":                  {"user@1000.service/init.scope"},
		"/docker/" + id64[:63]:                                                      {},
		"/system.slice/docker-" + id12 + ".scope":                                   {"docker-" + id12 + ".scope"},
		`/system.slice/a\x2db.service`:                                              {`a\x2db.service`}, // as systemd names it

		// Units of connections to a socket with Accept=yes: of IPv4, IPv6 and unix.
		"/rv.slice/sshd@5-10.0.0.1:22-10.0.0.2:51234.service":                       {"sshd@5-10.0.0.1:22-10.0.0.2:51234.service"},
		"/system.slice/system-ssh.slice/ssh@5-10.0.0.1:22-10.0.0.2:51234.service/x": {"ssh@5-10.0.0.1:22-10.0.0.2:51234.service"},
		"/system.slice/sshd@5-2001:db8::1:22-2001:db8::2:51234.service":             {"sshd@5-2001:db8::1:22-2001:db8::2:51234.service"},
		"/system.slice/sshd@5-4711-0.service":                                       {"sshd@5-4711-0.service"},
		"/system.slice/a:b:c.service":                                               {"a:b:c.service"},
		"/system.slice/system.slice:b:c.service":                                    {"system.slice:b:c.service"},
		"/system.slice/a:b:" + id64:                                                 {},

		// docker, in both drivers, rootless, with systemd inside, and inside each other.
		"/docker/" + id64:                                                {"", "docker-" + id12},
		"/docker/" + id64 + "/init":                                      {"", "docker-" + id12},
		"/docker-ce/docker/" + id64:                                      {"", "docker-" + id12},
		"/system.slice/docker-" + id64 + ".scope":                        {"", "docker-" + id12},
		"/batch.slice/docker-" + id64 + ".scope":                         {"", "docker-" + id12},
		"/system.slice/docker-" + id64 + ".scope/system.slice/a.service": {"", "docker-" + id12},
		"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id64 + ".scope": {"user@1000.service", "docker-" + id12},
		"/docker/" + id64 + "/docker/" + id64B:                                               {"", "docker-" + id12B},
		"/system.slice:docker:" + id64:                                                       {"", "docker-" + id12},
		"/actions_job/" + id64:                                                               {"", "container-" + id12},
		"/docker/buildkit/" + build:                                                          {"", "buildkit-" + build[:12]},
		"/system.slice:docker:" + build:                                                      {"", "buildkit-" + build[:12]},

		// podman, in both drivers, rootless, in a pod, and in a service (Quadlet).
		"/machine.slice/libpod-" + id64 + ".scope":                                                          {"", "podman-" + id12},
		"/machine.slice/libpod-" + id64 + ".scope/container":                                                {"", "podman-" + id12},
		"/machine.slice/libpod-conmon-" + id64 + ".scope":                                                   {"", "podman-" + id12},
		"/libpod_parent/libpod-" + id64:                                                                     {"", "podman-" + id12},
		"/libpod_parent/" + id64 + "/" + id64B:                                                              {"", "container-" + id12B},
		"/machine.slice/machine-libpod_pod_" + id64B + ".slice/libpod-" + id64 + ".scope":                   {"", "podman-" + id12},
		"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id64 + ".scope/container":      {"user@1000.service", "podman-" + id12},
		"/system.slice/web.service/libpod-payload-" + id64:                                                  {"web.service", "podman-" + id12},
		"/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-" + id64 + "/x": {"user@1000.service/web.service", "podman-" + id12},

		// Kubernetes: both drivers, every runtime, static pods, odd slices.
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + slice + "/cri-containerd-" + id64 + ".scope": {"", pod + "containerd-" + id12},
		"/kubepods.slice/kubepods-pod" + slice + "/crio-" + id64 + ".scope":                                              {"", pod + "crio-" + id12},
		"/kubepods.slice/kubepods-pod" + slice + "/crio-" + id64 + ".scope/container":                                    {"", pod + "crio-" + id12},
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + slice + "/docker-" + id64 + ".scope":       {"", pod + "docker-" + id12},
		"/kubepods/besteffort/pod" + podID + "/crio-" + id64:                                                             {"", pod + "crio-" + id12},
		"/kubepods/burstable/pod" + podID + "/" + id64:                                                                   {"", pod + "container-" + id12},
		"/kubepods/pod" + podID:                          {"", "pod" + podID},
		"/kubepods/burstable/pod" + task + "/" + id64:    {"", "pod" + task + "/container-" + id12},
		"/kubepods.slice/kubepods-pod" + task + ".slice": {"", "pod" + task},
		"/system.slice/containerd.service/kubepods-burstable-pod" + slice + ":cri-containerd:" + id64: {"containerd.service", pod + "containerd-" + id12},
		"/kubepods-burstable-pod" + slice + ":cri-containerd:" + id64:                                 {"", pod + "containerd-" + id12},
		"/k8s.io/" + id64: {"", "containerd-" + id12},
		"/system.slice/snap.microk8s.daemon-kubelite.service/kubepods/pod" + podID + "/" + id64: {"snap.microk8s.daemon-kubelite.service", pod + "container-" + id12},
		"/../../kubepods-burstable-pod" + slice + "/cri-containerd-" + id64 + ".scope":          {"", pod + "containerd-" + id12},

		// Kubernetes in docker: kind, minikube, k3d.
		"/system.slice/docker-" + id64 + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + slice + "/cri-containerd-" + id64B + ".scope": {"", pod + "containerd-" + id12B},
		"/docker/" + id64 + "/kubelet/kubepods/besteffort/pod" + podID + "/" + id64B:                                       {"", pod + "container-" + id12B},
		"/docker/" + id64 + "/kubepods/besteffort/pod" + podID + "/" + id64B:                                               {"", pod + "container-" + id12B},
		"/docker/" + id64 + "/system.slice/kubelet.service":                                                                {"", "docker-" + id12},
		"/machine.slice/libpod-" + id64 + ".scope/container/kubelet.slice/kubelet-kubepods-pod" + slice + "/crio-" + id64B: {"", pod + "crio-" + id12B},
		"/kubepods/pod" + podID + "/" + id64 + "/docker/" + id64B:                                                          {"", pod + "docker-" + id12B},

		// kata, whose virtual machine is in the pod's cgroup.
		"/kubepods/burstable/pod" + podID + "/kata_" + id64:                 {"", pod + "kata-" + id12},
		"/kubepods.slice/kubepods-pod" + slice + ":kata:" + id64:            {"", pod + "kata-" + id12},
		"/kubepods.slice/kubepods-pod" + slice + "/kata-" + id64 + ".scope": {"", pod + "kata-" + id12},
		"/kata_overhead/" + id64:                                            {"", "kata-" + id12},

		// containerd without Kubernetes.
		"/system.slice/nerdctl-" + id64 + ".scope": {"", "containerd-" + id12},
		"/moby/" + id64: {"", "docker-" + id12},

		// Other runtimes, as crun, runc and balena write their scopes.
		"/system.slice/crun-" + id64 + ".scope":                                            {"", "crun-" + id12},
		"/system.slice/runc-" + id64 + ".scope/system.slice/a.service":                     {"", "runc-" + id12},
		"/system.slice/balena-" + id64 + ".scope":                                          {"", "balena-" + id12},
		"/system.slice/my-runtime-" + id64 + ".scope":                                      {"", "my-runtime-" + id12},
		"/system.slice:runc:" + id64:                                                       {"", "runc-" + id12},
		"/user.slice/user-1000.slice/user@1000.service/user.slice/crun-" + id64 + ".scope": {"user@1000.service", "crun-" + id12},
		"/kubepods.slice/kubepods-pod" + slice + "/runc-" + id64 + ".scope":                {"", pod + "runc-" + id12},
		"/system.slice/crun-" + id64 + ".service":                                          {"crun-" + id64 + ".service"},
		"/system.slice/-" + id64 + ".scope":                                                {"-" + id64 + ".scope"},

		// ECS: on Fargate, and on instances with both drivers.
		"/ecs/" + task + "/" + task + "-3456789012":                             {"", "ecs-" + task[:12]},
		"/ecs/" + task + "/" + id64:                                             {"", "ecs-" + id12},
		"/ecs/cluster/" + task + "/" + id64:                                     {"", "ecs-" + id12},
		"/ecstasks.slice/ecstasks-" + task + ".slice/docker-" + id64 + ".scope": {"", "docker-" + id12},

		// Nomad, mesos, garden, firecracker.
		"/nomad.slice/share.slice/" + podID + ".web.scope": {"", "nomad-web-3a0f8c1e7c2b"},
		"/nomad.slice/" + podID + ".web.scope":             {"", "nomad-web-3a0f8c1e7c2b"},
		"/nomad/" + podID:                                  {"", "nomad-3a0f8c1e7c2b"},
		"/mesos/" + podID:                                  {"", "mesos-3a0f8c1e7c2b"},
		"/garden/" + podID:                                 {"", "garden-3a0f8c1e7c2b"},
		"/firecracker/vm7":                                 {"", "firecracker-vm7"},
		"/user.slice/" + podID + ".web.scope":              {podID + ".web.scope"}, // not Nomad's

		// LXC and Incus; what runs inside has units of its own.
		"/lxc/web": {"", "lxc-web"},
		"/lxc/101/ns/system.slice/postfix.service":      {"", "lxc-101"},
		"/lxc.payload.web/system.slice/nginx.service":   {"", "lxc-web"},
		"/lxc.payload/web":                              {"", "lxc-web"},
		"/lxc.payload.web/lxc.payload.inner/init.scope": {"", "lxc-inner"},
		"/lxc.payload.web/docker/" + id64:               {"", "docker-" + id12},
		"/lxc.monitor.web":                              {},

		// systemd-nspawn: registered, as a service, in a service; machines with dashes.
		"/machine.slice/machine-web.scope/payload":                                     {"", "nspawn-web"},
		`/machine.slice/machine-my\x2dweb.scope/payload/system.slice/a.service`:        {"", "nspawn-my-web"},
		"/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service": {"systemd-nspawn@web.service", "nspawn-web"},
		"/machine.slice/systemd-nspawn@web.service/supervisor":                         {"systemd-nspawn@web.service", "nspawn-web"},
		`/machine.slice/systemd-nspawn@my\x2dweb.service/payload/init.scope`:           {`systemd-nspawn@my\x2dweb.service`, "nspawn-my-web"},
		"/system.slice/web.service/payload/system.slice/nginx.service":                 {"web.service", "nspawn-web"},
		"/system.slice/web.service/payload":                                            {"web.service"},
		"/system.slice/web.service/system.slice/nginx.service":                         {"web.service"}, // the inner one is not the host's

		// libvirt, with systemd-machined and without.
		`/machine.slice/machine-qemu\x2d3\x2dvm1.scope`:                     {"", "qemu-vm1"},
		`/machine.slice/machine-qemu\x2d12\x2dmy\x2dvm.scope/libvirt/vcpu0`: {"", "qemu-my-vm"},
		`/machine.slice/machine-lxc\x2d4711\x2dweb.scope`:                   {"", "lxc-web"},
		"/machine/qemu-1-vm1.libvirt-qemu/emulator":                         {"", "qemu-vm1"},
		"/machine/vm1.libvirt-qemu":                                         {"", "qemu-vm1"},
	}
}

func TestUnitAndContainer(t *testing.T) {
	for path, want := range cgroupShapes() {
		unit, container := unitAndContainer(path)
		if got := [2]string{unit, container}; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestCgroupPath(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"garbage\n":                        "",
		"0::/system.slice/nginx.service\n": "/system.slice/nginx.service",
		"0::/\n":                           "/",
		"12:pids:/docker/" + id64 + "\n1:name=systemd:/docker/" + id64 + "\n0::/\n": "/docker/" + id64,
		"4:memory:/user.slice\n1:name=systemd:/system.slice/a.service\n0::/\n":      "/system.slice/a.service",
		"1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n":      "/system.slice/a.service",
		"5:cpu,cpuacct:/docker/" + id64 + "\n":                                      "/docker/" + id64,
		"0::/weird:name\n":                                                          "/weird:name",
	} {
		if got := cgroupPath(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestCgroupMount(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"25 20 0:22 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n":                                                  "",
		"35 20 0:31 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n":                                                 "/sys/fs/cgroup",
		"25 20 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n26 20 0:23 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n": "/sys/fs/cgroup/unified",
		// In a container: its own, and that of the host.
		"35 20 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n36 20 0:31 /../../.. /host/sys/fs/cgroup ro - cgroup2 cgroup rw\n": "/host/sys/fs/cgroup",
		"36 20 0:31 /../../.. /host/sys/fs/cgroup ro - cgroup2 cgroup rw\n35 20 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n": "/host/sys/fs/cgroup",
		"36 20 0:31 /../other /mnt ro - cgroup2 cgroup rw\n":                                                                    "",
		"35 20 0:31 /sub /mnt rw - cgroup2 cgroup2 rw\n":                                                                        "", // a part of the hierarchy
		`35 20 0:31 / /my\040cgroups rw - cgroup2 cgroup2 rw` + "\n":                                                            "/my cgroups",
	} {
		if got := cgroupMount(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzCgroup(f *testing.F) {
	f.Add("0::/kubepods/burstable/pod" + podID + "/" + id64 + "\n")
	f.Fuzz(func(_ *testing.T, text string) {
		unitAndContainer(cgroupPath(text))
		cgroupMount(text)
	})
}
