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

func TestUnitAndContainer(t *testing.T) {
	systemdPod := "kubepods-burstable-pod" + strings.ReplaceAll(podID, "-", "_") + ".slice"
	for path, want := range map[string][2]string{
		"":                            {},
		"/":                           {},
		"/system.slice":               {},
		"/system.slice/.service":      {},
		"/system.slice/nginx.service": {"nginx.service"},
		"/system.slice/cups.socket":   {"cups.socket"},
		"/system.slice/system-getty.slice/getty@tty1.service":                       {"getty@tty1.service"},
		"/system.slice/_memory.service":                                             {"memory.service"},
		"/system.slice/ssh.service/sub/group":                                       {"ssh.service"},
		"/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service": {"user@1000.service/syncthing.service"},
		"/user.slice/user-1000.slice/session-3.scope":                               {"session-3.scope"},
		"/system.slice/docker-" + id64 + ".scope":                                   {"docker-" + id64 + ".scope", "docker-" + id12},
		"/docker/" + id64:                                    {"", "docker-" + id12},
		"/docker/" + id64 + "/init":                          {"", "docker-" + id12},
		"/machine.slice/libpod-" + id64 + ".scope/container": {"libpod-" + id64 + ".scope", "podman-" + id12},
		"/libpod_parent/libpod-" + id64:                      {"", "podman-" + id12},
		"/kubepods.slice/kubepods-burstable.slice/" + systemdPod + "/cri-containerd-" + id64 + ".scope":                         {"cri-containerd-" + id64 + ".scope", "pod" + podID + "/containerd-" + id12},
		"/kubepods.slice/" + systemdPod + "/crio-" + id64 + ".scope":                                                            {"crio-" + id64 + ".scope", "pod" + podID + "/crio-" + id12},
		"/kubepods/burstable/pod" + podID + "/" + id64:                                                                          {"", "pod" + podID + "/container-" + id12},
		"/system.slice/containerd.service/kubepods-pod" + strings.ReplaceAll(podID, "-", "_") + ".slice:cri-containerd:" + id64: {"containerd.service", "containerd-" + id12},
		"/kubepods/pod" + podID: {"", "pod" + podID},
		"/lxc/web":              {"", "lxc-web"},
		"/lxc.payload.web/system.slice/nginx.service": {"nginx.service", "lxc-web"},
		"/machine.slice/machine-web.scope/payload":    {"machine-web.scope", "nspawn-web"},
		"/podman.service":      {"podman.service"}, // no pod
		"/docker/" + id64[:63]: {},
	} {
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
