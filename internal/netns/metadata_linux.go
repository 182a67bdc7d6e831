package netns

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// metadata reads the names of containers and pods from what their runtimes and the
// kubelet have on the disk, below the root of the host.
type metadata struct{ root string }

// newMetadata returns what reads below a root; an empty one is that of the first process,
// or ours if that may not be read.
func newMetadata(procfs, rootfs string) metadata {
	root := cmp.Or(rootfs, filepath.Join(procfs, "1/root"))
	if _, err := os.Stat(root + "/"); err != nil {
		root = "/"
	}
	return metadata{root: root}
}

// name adds names to an identity: by the files of kubelet, which anyone may list, then
// by the configuration of the container.
func (m metadata) name(i *Identity) {
	if i.PodUID != "" {
		i.Namespace, i.Pod = m.podByUID(i.PodUID)
	}
	if i.ContainerID == "" {
		return
	}
	if pod, namespace, container, ok := m.containerLog(i.ContainerID); ok {
		i.Pod, i.Namespace, i.Container = pod, namespace, container
		return
	}
	if i.Runtime == "podman" {
		i.Container = m.podmanName(i.ContainerID)
		return
	}
	m.readConfig(i)
}

// podByUID finds /var/log/pods/NAMESPACE_POD_UID. Neither name may have an underscore.
func (m metadata) podByUID(uid string) (namespace, pod string) {
	for _, entry := range m.list("var/log/pods") {
		if rest, ok := strings.CutSuffix(entry, "_"+uid); ok {
			namespace, pod, _ = strings.Cut(rest, "_")
			return namespace, pod
		}
	}
	return "", ""
}

// containerLog finds /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log.
func (m metadata) containerLog(id string) (pod, namespace, container string, ok bool) {
	for _, entry := range m.list("var/log/containers") {
		rest, found := strings.CutSuffix(entry, "-"+id+".log")
		if parts := strings.Split(rest, "_"); found && len(parts) == 3 {
			return parts[0], parts[1], parts[2], true
		}
	}
	return "", "", "", false
}

// list returns the names in a directory, up to a bound.
func (m metadata) list(dir string) []string {
	const most = 10_000
	d, err := os.Open(filepath.Join(m.root, dir))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(most)
	return names
}

// bundles are where runtimes keep the configuration of a container by its id:
// containerd for Kubernetes, CRI-O and podman, docker.
var bundles = []struct{ runtime, dir, file string }{
	{"containerd", "run/containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"},
	{"crio", "run/containers/storage/overlay-containers", "userdata/config.json"},
	{"docker", "var/lib/docker/containers", "config.v2.json"},
}

// configuration has the names in a configuration; docker has the first only.
type configuration struct {
	Name        string            `json:"Name"`
	Annotations map[string]string `json:"annotations"`
}

// readConfig adds the names in the configuration of a container. Reading it requires
// CAP_DAC_READ_SEARCH.
func (m metadata) readConfig(i *Identity) {
	for _, b := range bundles {
		if i.Runtime != "" && i.Runtime != b.runtime || strings.ContainsRune(i.ContainerID, '/') {
			continue
		}
		text, err := readFile(filepath.Join(m.root, b.dir, i.ContainerID, b.file))
		var c configuration
		if err != nil || json.Unmarshal(text, &c) != nil {
			continue
		}
		of := func(keys ...string) (value string) {
			for _, key := range keys {
				value = cmp.Or(value, c.Annotations[key])
			}
			return value
		}
		i.Runtime = b.runtime
		i.Container = cmp.Or(of("io.kubernetes.cri.container-name", "io.kubernetes.container.name"), strings.TrimPrefix(c.Name, "/"))
		i.Pod = cmp.Or(i.Pod, of("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"))
		i.Namespace = cmp.Or(i.Namespace, of("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"))
		return
	}
}

// podmanName returns the name of a container in the tables of podman: the second has those
// that are removed when they end. The names of pods are in its database alone.
func (m metadata) podmanName(id string) string {
	for _, table := range []string{"containers.json", "volatile-containers.json"} {
		text, err := readFile(filepath.Join(m.root, "var/lib/containers/storage/overlay-containers", table))
		var containers []struct {
			ID    string   `json:"id"`
			Names []string `json:"names"`
		}
		if err != nil || json.Unmarshal(text, &containers) != nil {
			continue
		}
		for _, c := range containers {
			if c.ID == id && len(c.Names) > 0 {
				return c.Names[0]
			}
		}
	}
	return ""
}

var errNoFile = errors.New("not a regular file")

// readFile reads a regular file up to a size. What is none, as a pipe, is not waited for.
func readFile(path string) ([]byte, error) {
	const most = 1 << 20
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errNoFile)
	}
	return io.ReadAll(io.LimitReader(file, most))
}
