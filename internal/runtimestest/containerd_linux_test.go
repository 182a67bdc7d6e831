package runtimestest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const containerdSocket = "/run/containerd/containerd.sock"

// kubelet asks containerd for pods, as the one of Kubernetes does.
type kubelet struct {
	cri.RuntimeServiceClient
}

// startContainerd starts it with two images, and a network with published ports.
func startContainerd(t *testing.T) kubelet {
	t.Helper()
	containerd, ctr := porttest.Program(t, "SKIP-containerd", "containerd"), porttest.Program(t, "SKIP-containerd", "ctr")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "10-net.conflist"), `{"cniVersion": "0.4.0", "name": "net", "plugins": [
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
		 "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "10.85.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
		{"type": "portmap", "capabilities": {"portMappings": true}}]}`)
	config := write(t, filepath.Join(dir, "config.toml"), fmt.Sprintf(`version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  stream_server_port = "10070"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = %q
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %q
`, porttest.Program(t, "SKIP-runc", "lax"), dir))
	porttest.Start(t, exec.Command(containerd, "--config", config))                                             //nolint:gosec // of the test
	porttest.Await(t, "containerd to answer", func() bool { return exec.Command(ctr, "version").Run() == nil }) //nolint:gosec // of the test
	root := rootfs(t)
	for name, command := range map[string]string{"web": `"/bin/httpd", "-f", "-p"`, "pause": `"/bin/sleep", "100000"`} {
		run(t, ctr, "--namespace=k8s.io", "images", "import", image(t, root, name, command))
	}
	connection, err := grpc.NewClient("unix://"+containerdSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return kubelet{cri.NewRuntimeServiceClient(connection)}
}

// pod is one that runs: the id of its sandbox, and of its containers in their order.
type pod struct {
	config     *cri.PodSandboxConfig
	sandbox    string
	containers []string
}

// start runs a pod with containers that listen at addresses.
func (k kubelet) start(t *testing.T, config *cri.PodSandboxConfig, addresses ...string) pod {
	t.Helper()
	m := config.Metadata
	config.LogDirectory = fmt.Sprintf("/var/log/pods/%s_%s_%s", m.Namespace, m.Name, m.Uid)
	config.Linux.CgroupParent = "/kubepods/burstable/pod" + m.Uid
	sandbox, err := k.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	p := pod{config: config, sandbox: sandbox.PodSandboxId}
	for i, address := range addresses {
		name := fmt.Sprint("c", i)
		created, err := k.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: p.sandbox, SandboxConfig: config, Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: "localhost/web:1"}, Args: []string{address},
			LogPath: name + ".log", Linux: &cri.LinuxContainerConfig{},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: created.ContainerId}); err != nil {
			t.Fatal(err)
		}
		p.containers = append(p.containers, created.ContainerId)
	}
	return p
}

// stop ends a pod.
func (k kubelet) stop(t *testing.T, p pod) {
	t.Helper()
	if _, err := k.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		t.Fatal(err)
	}
}

// pid returns the first process of a container.
func pid(t *testing.T, id string) int {
	t.Helper()
	text, err := os.ReadFile("/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/init.pid")
	if err != nil {
		t.Fatal(err)
	}
	return number(t, string(text))
}

// TestContainerd has a pod of two containers with a port of the host, and one in the
// network namespace of the host.
func TestContainerd(t *testing.T) {
	const uid, hostUID = "3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa", "4b0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7bb"
	h := newHost(t)
	k := startContainerd(t)
	web := k.start(t, &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: "web-0", Namespace: "shop", Uid: uid},
		PortMappings: []*cri.PortMapping{{Protocol: cri.Protocol_TCP, ContainerPort: 8080, HostPort: 28080}},
		Linux:        &cri.LinuxPodSandboxConfig{},
	}, "0.0.0.0:8080", "127.0.0.1:9090")
	agent := k.start(t, &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "agent", Namespace: "kube-system", Uid: hostUID},
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
		}},
	}, "127.0.0.1:7070")
	status, err := k.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: web.sandbox})
	if err != nil {
		t.Fatal(err)
	}
	container := func(uid, id string) string { return "pod" + uid + "/container-" + id[:12] }
	const streams = "tcp 127.0.0.1:10070 loopback containerd root  "
	host := space{
		Listeners: []string{streams, "tcp 127.0.0.1:7070 loopback httpd root  " + container(hostUID, agent.containers[0])},
		Published: []string{"tcp any:28080 to " + status.Status.Network.Ip + ":8080 dnat"},
	}
	inPod := space{
		Info: map[string]string{"runtime": "containerd", "container_id": web.sandbox, "pod": "web-0", "namespace": "shop", "pod_uid": uid},
		Listeners: []string{
			"tcp 0.0.0.0:8080 any httpd root  " + container(uid, web.containers[0]),
			"tcp 127.0.0.1:9090 loopback httpd root  " + container(uid, web.containers[1]),
		},
	}
	first := pid(t, web.containers[0])
	sameAsKernel(t, first, inPod)
	sameAsKernel(t, 0, host)
	h.expect(t, map[string]space{"": host, "pod" + uid: inPod})
	h.ends(t, first, func() { k.stop(t, web) })
	k.stop(t, agent)
	h.expect(t, map[string]space{"": {Listeners: []string{streams}}})
}
