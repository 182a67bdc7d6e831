package netns

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMetadata names containers and pods by the files of a host.
func TestMetadata(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id := func(digit string) string { return strings.Repeat(digit, 64) }
	const uid = "2b0c5a1e-6f0a-4d0e-9b5c-0a1b2c3d4e5f"
	write("var/log/pods/shop_web-0_"+uid+"/app/0.log", "")
	write("var/log/containers/web-0_shop_app-"+id("a")+".log", "")
	write("var/log/containers/strange-"+id("b")+".log", "")
	const containerd = "run/containerd/io.containerd.runtime.v2.task/k8s.io/"
	write(containerd+id("c")+"/config.json", `{"annotations": {"io.kubernetes.cri.container-name": "db", "io.kubernetes.cri.sandbox-name": "db-0", "io.kubernetes.cri.sandbox-namespace": "data"}}`)
	write(containerd+id("d")+"/config.json", `{"annotations": 5`)
	write("run/containers/storage/overlay-containers/"+id("e")+"/userdata/config.json", `{"annotations": {"io.kubernetes.container.name": "dns", "io.kubernetes.pod.name": "dns-1", "io.kubernetes.pod.namespace": "kube-system"}}`)
	write("var/lib/docker/containers/"+id("f")+"/config.v2.json", `{"Name": "/web", "Config": {"Env": ["PASSWORD=x"]}}`)
	const podman = "var/lib/containers/storage/overlay-containers/"
	write(podman+"containers.json", `[{"id": "`+id("1")+`", "names": ["web", "other"]}, {"id": "`+id("2")+`"}]`)
	write(podman+"volatile-containers.json", `[{"id": "`+id("3")+`", "names": ["once"]}]`)
	write(containerd+id("0")+"/x", "")
	if err := syscall.Mkfifo(filepath.Join(root, containerd, id("0"), "config.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ of, want Identity }{
		"nothing":              {},
		"unknown":              {Identity{ContainerID: id("9")}, Identity{ContainerID: id("9")}},
		"a pod by its uid":     {Identity{PodUID: uid}, Identity{PodUID: uid, Pod: "web-0", Namespace: "shop"}},
		"a container's log":    {Identity{ContainerID: id("a")}, Identity{ContainerID: id("a"), Pod: "web-0", Namespace: "shop", Container: "app"}},
		"no such log":          {Identity{ContainerID: id("b")}, Identity{ContainerID: id("b")}},
		"containerd":           {Identity{ContainerID: id("c")}, Identity{Runtime: "containerd", ContainerID: id("c"), Pod: "db-0", Namespace: "data", Container: "db"}},
		"of another runtime":   {Identity{Runtime: "docker", ContainerID: id("c")}, Identity{Runtime: "docker", ContainerID: id("c")}},
		"no JSON":              {Identity{ContainerID: id("d")}, Identity{ContainerID: id("d")}},
		"CRI-O":                {Identity{Runtime: "crio", ContainerID: id("e")}, Identity{Runtime: "crio", ContainerID: id("e"), Pod: "dns-1", Namespace: "kube-system", Container: "dns"}},
		"docker":               {Identity{Runtime: "docker", ContainerID: id("f")}, Identity{Runtime: "docker", ContainerID: id("f"), Container: "web"}},
		"podman":               {Identity{Runtime: "podman", ContainerID: id("1")}, Identity{Runtime: "podman", ContainerID: id("1"), Container: "web"}},
		"podman, no name":      {Identity{Runtime: "podman", ContainerID: id("2")}, Identity{Runtime: "podman", ContainerID: id("2")}},
		"podman run --rm":      {Identity{Runtime: "podman", ContainerID: id("3")}, Identity{Runtime: "podman", ContainerID: id("3"), Container: "once"}},
		"a pipe":               {Identity{ContainerID: id("0")}, Identity{ContainerID: id("0")}},
		"a name that is a way": {Identity{ContainerID: "../" + id("c")}, Identity{ContainerID: "../" + id("c")}},
		"a name of two points": {Identity{ContainerID: ".."}, Identity{ContainerID: ".."}},
	} {
		got := tt.of
		metadata{root}.name(&got)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}
