package owner

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlacementOf(t *testing.T) {
	id := strings.Repeat("0123456789ab", 6)[:64]
	const uid, written = "2b0c5a1e-6f0a-4d0e-9b5c-0a1b2c3d4e5f", "2b0c5a1e_6f0a_4d0e_9b5c_0a1b2c3d4e5f"
	for path, want := range map[string]Placement{
		"":                            {},
		"/":                           {},
		"/user.slice":                 {},
		"/system.slice/nginx.service": {Unit: "nginx.service"},
		"/user.slice/user@1000.service/a.service/b.service": {Unit: "user@1000.service/a.service"},
		"/docker/" + id:                                {Container: "docker-0123456789ab", Runtime: "docker", ID: id},
		"/docker/" + id + "/docker/abc":                {Container: "docker-0123456789ab", Runtime: "docker", ID: id},
		"/system.slice/docker-" + id + ".scope":        {Container: "docker-0123456789ab", Runtime: "docker", ID: id},
		"/kubepods/burstable/pod" + uid + "/" + id:     {Container: "container-0123456789ab", ID: id, PodUID: uid},
		"/kubepods/besteffort/pod" + uid:               {PodUID: uid},
		"/lxc.payload.web-1/system.slice/cron.service": {Container: "lxc-web-1", Runtime: "lxc", ID: "web-1"},
		"/kubepods.slice/kubepods-pod" + written + ".slice/cri-containerd-" + id + ".scope": {
			Container: "containerd-0123456789ab", Runtime: "containerd", ID: id, PodUID: uid},
		`/machine.slice/systemd-nspawn@my\x2dweb.service/payload`: {
			Unit: `systemd-nspawn@my\x2dweb.service`, Container: "nspawn-my-web", Runtime: "nspawn", ID: "my-web"},
	} {
		if diff := cmp.Diff(want, PlacementOf(path)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", path, diff)
		}
	}
}
