package netns

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/owner"
)

func TestIdentify(t *testing.T) {
	id := strings.Repeat("0123456789ab", 6)[:64]
	const uid = "2b0c5a1e-6f0a-4d0e-9b5c-0a1b2c3d4e5f"
	mounted := func(paths ...string) (p Place) {
		for _, path := range paths {
			p.Mounts = append(p.Mounts, Mount{Path: path})
		}
		return p
	}
	for name, tt := range map[string]struct {
		place  Place
		cgroup string
		want   string
	}{
		"nothing":                    {want: "other"},
		"a sandbox of a browser":     {cgroup: "/user.slice/user-1000.slice/user@1000.service/app.slice/app-chromium-4711.scope", want: "other"},
		"a session":                  {cgroup: "/user.slice/user-1000.slice/session-2.scope", want: "other"},
		"the first process":          {place: Place{PIDs: []int32{1, 7}}, cgroup: "/init.scope", want: "host"},
		"PrivateNetwork=yes":         {cgroup: "/system.slice/web.service", want: "web.service"},
		"docker":                     {place: mounted("/run/docker/netns/0a1b2c3d4e5f"), cgroup: "/docker/" + id, want: "docker-0123456789ab"},
		"a pod":                      {place: mounted("/run/netns/cni-" + uid), cgroup: "/kubepods/pod" + uid + "/" + id, want: "pod" + uid},
		"a pod without a process":    {place: mounted("/run/netns/cni-" + uid), want: "other"},
		"podman without a process":   {place: mounted("/run/netns/netns-" + uid), want: "other"},
		"ip netns":                   {place: mounted("/run/netns/blue"), want: "blue"},
		"ip netns, with a unit":      {place: mounted("/var/run/netns/red", "/run/netns/blue"), cgroup: "/system.slice/web.service", want: "blue"},
		"ip netns that looks like a": {place: mounted("/run/netns/cni-web"), want: "cni-web"},
		"bytes that are no text":     {cgroup: "/lxc.payload.a\xff\u202e\"", want: `lxc-a\xff\u202e"`},
		"a long name":                {cgroup: "/lxc.payload." + strings.Repeat("x", 251) + "éé", want: "lxc-" + strings.Repeat("x", 251)},
		"a mount elsewhere":          {place: mounted("/srv/netns/blue", "/run/netns/a/b"), want: "other"},
	} {
		if got := identify(tt.place, owner.PlacementOf(tt.cgroup)).Name; got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// TestNamesOfContainers are there without any file where a container has no id.
func TestNamesOfContainers(t *testing.T) {
	for cgroup, want := range map[string]string{
		"/lxc.payload.web": "web",
		`/machine.slice/systemd-nspawn@my\x2dweb.service`: "my-web",
		"/docker/" + strings.Repeat("a", 64):              "",
	} {
		if got := identify(Place{}, owner.PlacementOf(cgroup)).Container; got != want {
			t.Errorf("%s: %q, want %q", cgroup, got, want)
		}
	}
}

// TestMountedNames has every name that ip-netns(8) lists, those of runtimes too.
func TestMountedNames(t *testing.T) {
	const runtime = "cni-2b0c5a1e-6f0a-4d0e-9b5c-0a1b2c3d4e5f"
	place := Place{Mounts: []Mount{{Path: "/run/netns/" + runtime}, {Path: "/var/run/netns/blue"}, {Path: "/run/netns/blue"}, {Path: "/run/netns/a/b"}, {Path: "/srv/red"}}}
	got := identify(place, owner.Placement{})
	if diff := cmp.Diff(Identity{Name: "blue", Hidden: true, Mounted: []string{"blue", runtime}}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMounts(t *testing.T) {
	const text = `36 35 0:32 / /run rw shared:5 - tmpfs tmpfs rw
100 36 0:4 net:[4026532008] /run/netns/blue rw shared:9 - nsfs nsfs rw
101 36 0:4 net:[4026532009] /run/netns/a\040name rw - nsfs nsfs rw
102 36 0:4 mnt:[4026532010] /run/snapd/ns/lxd.mnt rw - nsfs nsfs rw
103 36 0:4 net:[] /run/netns/none rw - nsfs nsfs rw
104 36 0:4 net:[4026532011 /run/netns/short rw - nsfs nsfs rw
105 36 0:32 net:[4026532012] /run/netns/file rw - tmpfs nsfs rw
106 - nsfs
`
	want := map[uint64]string{4026532008: "/run/netns/blue", 4026532009: "/run/netns/a name"}
	if diff := cmp.Diff(want, maps.Collect(mounts(text))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
