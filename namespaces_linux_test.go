package main

import (
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestContainerInNamespace has a container made by hand: a process in a network namespace
// and a cgroup as docker makes them. The daemon, in another namespace, exports its
// listener with the container and the process, whichever engine reads them.
func TestContainerInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	const name = "docker-0123456789ab"
	cgroup := porttest.NewCgroup(t, "system.slice/docker-"+strings.Repeat("0123456789ab", 6)[:64]+".scope")
	cgroup.Do(t, func() {
		startListenerAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, "0.0.0.0:18080")
	})
	for _, source := range []string{"auto", "sock_diag", "bpf"} {
		t.Run(source, func(t *testing.T) { compareContainer(t, name, source) })
	}
}

func compareContainer(t *testing.T, name, source string) {
	base, log := startDaemon(t, "--collector.disable-defaults", "--collector.namespaces", "--source="+source)
	engine := "bpf"
	if source == "sock_diag" {
		engine = source
	}
	if _, body := get(t, base+"/metrics"); !strings.Contains(body, `port_netns_source_info{reason="",source="`+engine+`"} 1`) {
		if _, why, fell := strings.Cut(body, `port_netns_source_info{reason="bpf: `); fell && engine == "bpf" {
			reason, _, _ := strings.Cut(why, `"`)
			t.Skip("SKIP-BPF: ", reason)
		}
		t.Fatalf("the engine is not %s:\n%s", engine, body)
	}
	for _, want := range []string{
		`port_listener_info{address="0.0.0.0",container="` + name + `",[^}]*netns="` + name + `",port="18080",process="[^"]+",protocol="tcp",scope="any",unit="",user="root"} 1`,
		`port_listener_accept_queue_limit{address="0.0.0.0",interface="",netns="` + name + `",port="18080",protocol="tcp"} [1-9]`,
		`port_netns_info{container="",container_id="0123456789ab[0-9a-f]{52}",[^}]*netns="` + name + `",[^}]*runtime="docker",unit=""} 1`,
		`port_sockets{family="ipv4",netns="` + name + `",protocol="tcp",state="listen"} 1`,
		`port_namespaces{read="full"} [1-9]`,
		`port_privilege_missing{privilege="CAP_SYS_ADMIN"} 0`,
	} {
		pattern := regexp.MustCompile(want)
		var body string
		porttest.Await(t, want, func() bool {
			_, body = get(t, base+"/metrics")
			return pattern.MatchString(body)
		})
		if strings.Contains(body, `port="18080",protocol="tcp",state="established"`) || strings.Contains(body, `netns="`+name+`",protocol="tcp",state="established"`) {
			t.Error("connections that the container does not have")
		}
	}
	if t.Failed() {
		t.Log(log.String())
	}
}
