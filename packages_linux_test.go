package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

var packagesDir = flag.String("packages", "", "folder with packages of 0.0.1 in first and of 0.0.2 in second, which TestPackagesInNamespace installs")

// TestPackagesInNamespace installs, upgrades, removes and purges the packages in a
// systemd that has booted on an overlay of this machine's file system. make
// e2e-packages runs it.
func TestPackagesInNamespace(t *testing.T) {
	if *packagesDir == "" {
		t.Skip("SKIP-PACKAGES: make e2e-packages builds them")
	}
	for name, test := range map[string]func(*testing.T, packaged){"deb": testDeb, "rpm": testRPM} {
		t.Run(name, func(t *testing.T) {
			porttest.Namespace(t)
			host := packaged{boot(t, "--volatile=no", "--directory="+overlayOfRoot(t), "--bind-ro="+*packagesDir+":/packages")}
			_ = os.Remove(host.path("/usr/sbin/policy-rc.d")) // there may be none
			host.run(t, "mkdir", "-p", "/usr/share/licenses") // which Debian does not have
			before := host.files(t)
			test(t, host)
			if diff := cmp.Diff(before, host.files(t)); diff != "" {
				t.Errorf("what is left (-before +after):\n%s", diff)
			}
		})
	}
}

// overlayOfRoot returns a folder that has the file system of this machine. What is
// written there is gone after the test.
func overlayOfRoot(t *testing.T) string {
	t.Helper()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("SKIP-NAMESPACE: unshare(CLONE_NEWNS): %v", err)
	}
	dir := t.TempDir()
	mount := func(source, target, kind string, flags uintptr, data string) {
		t.Helper()
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			t.Fatalf("mount %s on %s: %v", source, target, err)
		}
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	mount("tmpfs", dir, "tmpfs", 0, "")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	root := filepath.Join(dir, "root")
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+filepath.Join(dir, "upper")+",workdir="+filepath.Join(dir, "work"))
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	return root
}

// packaged is a systemd that installs packages.
type packaged struct{ booted }

const (
	aTarget = "targets:\n  - address: 127.0.0.1:8080\n"
	first   = "/packages/first/"
	second  = "/packages/second/"
)

func testDeb(t *testing.T, host packaged) {
	old, new := first+"port-exporter_0.0.1_amd64.deb", second+"port-exporter_0.0.2_amd64.deb"
	host.run(t, "dpkg", "-i", old)
	host.isServed(t, "0.0.1", 0)
	host.systemctl(t, "is-enabled", "port_exporter.service")
	host.changeConfiguration(t)

	pid := host.mainPID(t)
	host.run(t, "dpkg", "-i", old)
	if got := host.mainPID(t); got != pid {
		t.Errorf("the same version again starts a process: %s after %s", got, pid)
	}
	host.upgrade(t, "dpkg", "-i", new)

	host.write(t, unitsConfig, aTarget+"limits:\n  listener: 3\n")
	pid = host.mainPID(t)
	const rejected = "this version rejects the configuration, so the old one runs on"
	if out := host.run(t, "dpkg", "-i", old); !strings.Contains(out, rejected) {
		t.Errorf("a version that rejects the configuration does not say so:\n%s", out)
	}
	host.isServed(t, "0.0.2", 1)
	if got := host.mainPID(t); got != pid {
		t.Errorf("a version that rejects the configuration starts a process: %s after %s", got, pid)
	}

	host.write(t, unitsConfig, aTarget)
	host.run(t, "dpkg", "-r", "port-exporter")
	host.isGone(t)
	host.isUnchanged(t, unitsConfig)
	host.run(t, "dpkg", "-i", new)
	host.isServed(t, "0.0.2", 1)

	// What the administrator disables stays disabled.
	host.systemctl(t, "disable", "--now", "port_exporter.service")
	host.run(t, "dpkg", "-i", new)
	if out, err := host.command("systemctl", "is-active", "port_exporter.service").CombinedOutput(); err == nil {
		t.Errorf("disabled, and after a new installation %s", out)
	}
	host.run(t, "dpkg", "--purge", "port-exporter")
	host.isGone(t)
}

func testRPM(t *testing.T, host packaged) {
	rpm := []string{"rpm", "--nodeps"}
	if strings.Contains(host.run(t, "rpm", "--help"), "--force-debian") {
		rpm = append(rpm, "--force-debian")
	}
	old, new := first+"port-exporter-0.0.1-1.x86_64.rpm", second+"port-exporter-0.0.2-1.x86_64.rpm"
	host.run(t, append(rpm, "-i", old)...)
	host.systemctl(t, "enable", "--now", "port_exporter.service")
	host.isServed(t, "0.0.1", 0)
	host.changeConfiguration(t)
	host.upgrade(t, append(rpm, "-U", new)...)

	host.run(t, append(rpm, "-e", "port-exporter")...)
	host.isGone(t)
	host.isUnchanged(t, unitsConfig+".rpmsave")
	if err := os.RemoveAll(host.path(filepath.Dir(unitsConfig))); err != nil {
		t.Fatal(err)
	}
}

// changeConfiguration does what an administrator does.
func (p packaged) changeConfiguration(t *testing.T) {
	t.Helper()
	p.write(t, unitsConfig, aTarget)
	p.systemctl(t, "reload", "port_exporter.service")
	porttest.Await(t, "the target", func() bool { return porttest.Scrape(t, "port_config_targets")["port_config_targets"] == 1 })
}

// upgrade runs a command that replaces the first version by the second.
func (p packaged) upgrade(t *testing.T, command ...string) {
	t.Helper()
	pid := p.mainPID(t)
	p.run(t, command...)
	if got := p.mainPID(t); got == pid {
		t.Errorf("after %v the old process runs", command)
	}
	p.isServed(t, "0.0.2", 1)
	p.isUnchanged(t, unitsConfig)
}

// isServed compares what the exporter says of its version and its targets, and whether it
// names the owner of a listener of another user.
func (p packaged) isServed(t *testing.T, version string, targets float64) {
	t.Helper()
	porttest.AwaitListening(t, porttest.ScrapeAddress)
	_, body := porttest.Get(t, porttest.ScrapeAddress, "/metrics")
	if !strings.Contains(body, `,version="`+version+`"} 1`) {
		t.Errorf("it is not version %s: %s", version, regexp.MustCompile(`port_exporter_build_info\{.*`).FindString(body))
	}
	if got := porttest.Scrape(t, "port_config_targets")["port_config_targets"]; got != targets {
		t.Errorf("%v targets, want %v", got, targets)
	}
	if !regexp.MustCompile(`port_listener_info\{.*port="8080",process="systemd-socket-activate".*unit="px-web.service"`).MatchString(body) {
		t.Error("the owner of port 8080 is not known")
	}
}

// isGone looks for the service, its unit and its process.
func (p packaged) isGone(t *testing.T) {
	t.Helper()
	if out := p.systemctl(t, "list-units", "--all", "--state=loaded", "--plain", "--no-legend", "port_exporter.*"); out != "" {
		t.Errorf("systemd still has %s", out)
	}
	if _, _, err := porttest.TryGet(porttest.ScrapeAddress, "/metrics"); err == nil {
		t.Error("it is still served")
	}
}

// isUnchanged looks at a configuration that the administrator changed.
func (p packaged) isUnchanged(t *testing.T, path string) {
	t.Helper()
	if text, err := os.ReadFile(p.path(path)); err != nil || string(text) != aTarget {
		t.Errorf("%s: %v, %q", path, err, text)
	}
}

// files are all files but those of the package managers and logs.
func (p packaged) files(t *testing.T) []string {
	t.Helper()
	out := map[string]bool{}
	for path := range strings.Lines(p.run(t, "find", "/etc", "/usr", "/opt", "/var/lib", "-xdev", "-not", "-path", "/var/lib/dpkg/*", "-not", "-path", "/var/lib/rpm/*")) {
		out[strings.TrimSpace(path)] = true
	}
	return slices.Sorted(maps.Keys(out))
}
