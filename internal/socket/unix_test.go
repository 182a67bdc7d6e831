package socket

import (
	"strings"
	"testing"
)

func TestKernelUnixName(t *testing.T) {
	for sunPath, want := range map[string]UnixName{
		"":                          {},
		"\x00":                      {"@", true},
		"/run/a.sock\x00":           {"/run/a.sock", false},
		"/run/a.sock":               {"/run/a.sock", false}, // all of sun_path
		"@relative\x00":             {"@relative", false},
		"/run/two\nlines\xff\x00":   {"/run/two\nlines\xff", false},
		"\x00abstract":              {"@abstract", true},
		"\x00a\x00b\x00\x00\x00":    {"@a@b", true},
		"\x00" + "00001":            {"@00001", true},
		strings.Repeat("x", 108):    {strings.Repeat("x", 108), false},
		"\x00\x00\x00\x00\x00\x00y": {"@@@@@@y", true},
	} {
		if got := KernelUnixName([]byte(sunPath)); got != want {
			t.Errorf("%q is %+v, want %+v", sunPath, got, want)
		}
	}
}

// Names of real programs: those that another start changes, and those that it does
// not.
func TestFoldPath(t *testing.T) {
	for path, want := range map[string]string{
		"/run/containerd/s/0f0c52e6d1b36f0ca5e6ab0c1b1f7d5de8f3d27cc1fef1a1a6c79d5bb5a3d2e0": "/run/containerd/s/*",
		"/tmp/x-1234abcd":                  "/tmp/x-*",
		"/tmp/ssh-XXXXXXu5TnBp/agent.4711": "/tmp/ssh-*/agent.*",
		"/tmp/ssh-Ab3dE9fGh1Jk/agent.4711": "/tmp/ssh-*/agent.*",
		"@/tmp/dbus-aB3xYz9Qw1":            "@/tmp/dbus-*",
		"/tmp/.ICE-unix/1234":              "/tmp/.ICE-unix/*",
		"@/tmp/.ICE-unix/1234":             "@/tmp/.ICE-unix/*",
		"@00001":                           "@*",
		"@fffff":                           "@*",
		"/var/lib/libvirt/qemu/550e8400-e29b-41d4-a716-446655440000.monitor": "/var/lib/libvirt/qemu/*.monitor",
		"/run/user/1000/vscode-git-4f6e3f2a1b.sock":                          "/run/user/1000/vscode-git-*.sock",
		"/tmp/x-1234567": "/tmp/x-*",

		"": "", "@": "@",
		"/run/php/php8.2-fpm.sock":           "/run/php/php8.2-fpm.sock",
		"/run/postgresql/.s.PGSQL.5432":      "/run/postgresql/.s.PGSQL.5432",
		"/var/run/docker.sock":               "/var/run/docker.sock",
		"/run/user/1000/pulse/native":        "/run/user/1000/pulse/native",
		"/run/user/1000/bus":                 "/run/user/1000/bus",
		"@/tmp/.X11-unix/X0":                 "@/tmp/.X11-unix/X0",
		"/run/systemd/io.systemd.ManagedOOM": "/run/systemd/io.systemd.ManagedOOM",
		"/run/dbus/system_bus_socket":        "/run/dbus/system_bus_socket",
		"@envoy_domain_socket_parent_0":      "@envoy_domain_socket_parent_0",
		"/run/NetworkManager/private":        "/run/NetworkManager/private",
		"/run/app/PulseAudio-2.sock":         "/run/app/PulseAudio-2.sock",
		"/run/gunicorn/web-8000.sock":        "/run/gunicorn/web-8000.sock",
		"/run/é\xff\n1234":                   "/run/é\xff\n1234",
		"/run/deadbeef":                      "/run/deadbeef",
		"550e8400-e29b-41d4-a716":            "*-e29b-41d4-a716",
	} {
		if got := FoldPath(path); got != want {
			t.Errorf("%q becomes %q, want %q", path, got, want)
		}
	}
}

func TestUnixQueueOfGroup(t *testing.T) {
	var sockets []Listener
	for _, q := range []AcceptQueue{{2, 1}, {0, 128}, {1, 1}} {
		l := NewUnix(UnixName{Path: "/run/a.sock"}, Member{Inode: uint64(q.Limit)})
		l.SetQueue(q)
		sockets = append(sockets, l)
	}
	sockets = append(sockets, NewUnix(UnixName{Path: "/run/a.sock", Abstract: true}, Member{}))
	got := FoldPortless(sockets)
	if len(got) != 2 || got[0].Sockets != 3 || got[0].Full != 1 || got[0].Worst != (AcceptQueue{2, 1}) || got[0].AcceptQueue != 3 || got[0].AcceptQueueLimit != 130 || len(got[0].Members) != 3 ||
		got[1].Known.Has(KnowsQueues) || !got[0].IsPortless() {
		t.Errorf("%+v", got)
	}
}
