package examplestest

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/cli"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

const (
	units = "../../packaging/systemd"
	// maxExposure is ten times the figure that systemd-analyze security ends
	// with. The capabilities, the network and /proc cost 1.5 of its 10 points; a further
	// capability 0.1, CAP_SYS_ADMIN with namespaces 0.4.
	maxExposure               = 18
	maxExposureUnprivileged   = 13
	maxExposureWithCapability = 19
	maxExposureWithAdmin      = 22
)

func TestSystemdUnits(t *testing.T) {
	tests := []struct {
		name     string
		dropIns  []string
		exposure int
	}{
		{"plain", nil, maxExposure},
		{"unprivileged", []string{"unprivileged.conf"}, maxExposureUnprivileged},
		{"socket activation", []string{"socket-activation.conf"}, maxExposure},
		{"pings", []string{"pings.conf"}, maxExposureWithCapability},
		{"socket activation and pings", []string{"socket-activation.conf", "pings.conf"}, maxExposureWithCapability},
		{"namespaces", []string{"namespaces.conf"}, maxExposureWithCapability},
		{"namespaces by sock_diag", []string{"namespaces-sock_diag.conf"}, maxExposureWithAdmin},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			analyze := systemdAnalyze(t)
			dir := copyUnits(t, tt.dropIns)
			service, socket := filepath.Join(dir, "port_exporter.service"), filepath.Join(dir, "port_exporter.socket")
			// verify reports some mistakes and succeeds all the same.
			cmd := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", service, socket)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v\n%s", cmd, err, out)
			}
			output(t, analyze, "security", "--offline=yes", "--no-pager", fmt.Sprintf("--threshold=%d", tt.exposure), service)
		})
	}
}

// left is what systemd-analyze security finds fault with and the exporter needs: the
// network, netlink and /proc of the host, and its two capabilities. RootDirectory
// protects little beside ProtectSystem; the device is that of a clock, which
// ProtectClock lets be read.
var left = []string{
	"AmbientCapabilities", "CapabilityBoundingSet_CAP_DAC_FOWNER_IPC_OWNER", "CapabilityBoundingSet_CAP_SYS_PTRACE", "DeviceAllow",
	"IPAddressDeny", "PrivateNetwork", "PrivateUsers", "ProcSubset",
	"RestrictAddressFamilies_AF_INET_INET6", "RestrictAddressFamilies_AF_NETLINK", "RestrictAddressFamilies_AF_UNIX", "RootDirectoryOrRootImage",
}

// TestExposure compares each finding with that list: the figure of [TestSystemdUnits] is
// rounded, and a setting that is lost may not change it. It loses some to see that.
func TestExposure(t *testing.T) {
	analyze := systemdAnalyze(t)
	whole := porttest.ReadFile(t, units+"/port_exporter.service")
	if diff := cmp.Diff(left, exposed(t, analyze, whole)); diff != "" {
		t.Errorf("what is left open (-want +got):\n%s", diff)
	}
	for _, key := range []string{
		"LockPersonality", "MemoryDenyWriteExecute", "PrivateDevices", "PrivateMounts", "ProtectClock", "ProtectControlGroups", "ProtectHome", "ProtectHostname",
		"ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "RestrictNamespaces", "RestrictRealtime", "SystemCallArchitectures",
		"SystemCallFilter", "UMask", "CapabilityBoundingSet", "RestrictAddressFamilies",
	} {
		without := regexp.MustCompile(`(?m)^`+key+`=.*\n`).ReplaceAllString(whole, "")
		more := slices.DeleteFunc(exposed(t, analyze, without), func(name string) bool { return slices.Contains(left, name) })
		if len(more) == 0 {
			t.Errorf("a unit without %s is not noticed", key)
		}
	}
}

// exposed returns what systemd-analyze security finds fault with in a unit.
func exposed(t *testing.T, analyze, text string) []string {
	t.Helper()
	unit := filepath.Join(t.TempDir(), "port_exporter.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(text, "/usr/bin/port_exporter", "/bin/true")), 0o644); err != nil {
		t.Fatal(err)
	}
	var checks []struct {
		Field    string `json:"json_field"`
		Exposure string
	}
	if err := json.Unmarshal([]byte(output(t, analyze, "security", "--offline=yes", "--no-pager", "--json=short", unit)), &checks); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range checks {
		if c.Exposure != "" {
			names = append(names, c.Field)
		}
	}
	slices.Sort(names)
	return names
}

// What the sandbox must not take away, and what it must leave of privileges.
func TestServiceSettings(t *testing.T) {
	service := porttest.ReadFile(t, units+"/port_exporter.service")
	const capabilities = "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
	tests := []struct {
		key  string
		want string // empty: not set
	}{
		{"PrivateNetwork", ""},
		{"PrivateUsers", ""},
		{"ProtectProc", "invisible"},
		{"ProcSubset", "all"},
		{"RestrictAddressFamilies", "AF_NETLINK AF_INET AF_INET6 AF_UNIX"},
		{"CapabilityBoundingSet", capabilities},
		{"AmbientCapabilities", capabilities},
		{"NoNewPrivileges", "yes"},
		{"DynamicUser", "yes"},
		{"ProtectSystem", "strict"},
		{"EnvironmentFile", "-/etc/default/port_exporter"},
		{"ExecReload", "/usr/bin/port_exporter --config.check $ARGS"}, // then the signal
	}
	for _, tt := range tests {
		if got := setting(service, tt.key); got != tt.want {
			t.Errorf("%s=%s, want %q", tt.key, got, tt.want)
		}
	}
}

// TestPackageContents reads what the packages have: files that exist, and everything
// below /etc is kept when an administrator has changed it. Installing them is for make
// e2e-packages.
func TestPackageContents(t *testing.T) {
	var nfpm struct {
		Contents  []struct{ Src, Dst, Type, Packager string }
		Overrides map[string]struct{ Scripts map[string]string }
	}
	if err := yaml.Unmarshal([]byte(porttest.ReadFile(t, "../../packaging/nfpm.yaml")), &nfpm); err != nil {
		t.Fatal(err)
	}
	built := []string{"port_exporter", "port_exporter.1.gz", "changelog.gz"} // by packaging/build
	of := map[string][]string{}
	for _, c := range nfpm.Contents {
		if c.Type == "dir" {
			continue
		}
		if !slices.Contains(built, c.Src) {
			glob(t, filepath.Join("../..", c.Src))
		}
		if strings.HasPrefix(c.Dst, "/etc/") != (c.Type == "config|noreplace") {
			t.Errorf("%s has the type %q", c.Dst, c.Type)
		}
		of[c.Packager] = append(of[c.Packager], c.Dst)
	}
	for _, packager := range []string{"deb", "rpm"} {
		for _, want := range []string{"/usr/lib/systemd/system/port_exporter.service", "/usr/lib/systemd/system/port_exporter.socket", "/usr/share/port-exporter/port_exporter.service.d"} {
			if !slices.Contains(of[packager], want) {
				t.Errorf("%s lacks %s", packager, want)
			}
		}
	}
	for packager, o := range nfpm.Overrides {
		if len(o.Scripts) == 0 {
			t.Errorf("%s has no scripts", packager)
		}
		for _, script := range o.Scripts {
			output(t, "sh", "-n", filepath.Join("../..", script))
		}
	}
	// The unit reads the file that holds the flags, which name the configuration.
	if got := porttest.ReadFile(t, "../../packaging/default/port_exporter"); !strings.Contains(got, `ARGS="--config.file=/etc/port_exporter/port_exporter.yml"`) {
		t.Errorf("the flags are %s", got)
	}
}

// TestOtherSystems checks the files of systems on which nothing was run: what can be parsed
// here, and that each flag exists.
func TestOtherSystems(t *testing.T) {
	script, plist := "../../packaging/freebsd/port_exporter", porttest.ReadFile(t, "../../packaging/launchd/org.port-exporter.port_exporter.plist")
	output(t, "sh", "-n", script)
	for decoder := xml.NewDecoder(strings.NewReader(plist)); ; {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("launchd: %v", err)
		}
	}
	for _, flag := range regexp.MustCompile(`--([a-z.-]+)`).FindAllStringSubmatch(porttest.ReadFile(t, script)+plist, -1) {
		known := func(f *kingpin.FlagModel) bool { return f.Name == flag[1] }
		if !slices.ContainsFunc(cli.Model().Flags, known) {
			t.Errorf("there is no flag %s", flag[0])
		}
	}
}

// With a socket unit the port stands in two places.
func TestPortIsTheSame(t *testing.T) {
	const port = "10065"
	if got := setting(porttest.ReadFile(t, units+"/port_exporter.socket"), "ListenStream"); got != port {
		t.Errorf("port_exporter.socket: ListenStream=%s, want %s", got, port)
	}
	if !strings.Contains(porttest.ReadFile(t, examples+"/prometheus.yml"), `"localhost:`+port+`"`) {
		t.Errorf("prometheus.yml does not scrape port %s", port)
	}
	if got := readDockerfile(t).last().find("EXPOSE"); got != port {
		t.Errorf("Dockerfile: EXPOSE %s, want %s", got, port)
	}
}

func TestDockerfileBuilder(t *testing.T) {
	builder := readDockerfile(t)[0]
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(porttest.ReadFile(t, "../../go.mod"))[1]
	if want := "--platform=$BUILDPLATFORM golang:" + goVersion; builder.image != want {
		t.Errorf("built on %s, want %s as in go.mod", builder.image, want)
	}
	build := builder.find("RUN", "go build")
	wanted := []string{"CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH ", " -trimpath ", "-s -w ", " -o /port_exporter ."}
	for _, name := range []string{"Version", "Revision", "Branch", "BuildUser", "BuildDate"} {
		wanted = append(wanted, "-X github.com/prometheus/common/version."+name+"=${")
	}
	for _, want := range wanted {
		if !strings.Contains(build, want) {
			t.Errorf("the build has no %q: %s", want, build)
		}
	}
}

func TestDockerfileFinalStage(t *testing.T) {
	final := readDockerfile(t).last()
	tests := []struct {
		what, got, want string
	}{
		{"image", final.image, "scratch"},
		{"USER", final.find("USER"), "65534:65534"}, // by number: scratch has no /etc/passwd
		{"ENTRYPOINT", final.find("ENTRYPOINT"), `["/port_exporter"]`},
		{"certificates", final.find("COPY", "ca-certificates.crt"), "--from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/"},
		{"HEALTHCHECK", final.find("HEALTHCHECK"), `--interval=30s --timeout=10s CMD ["/port_exporter", "check", "--quiet", "http://127.0.0.1:10065/-/healthy"]`},
		{"binary", final.find("COPY", " /port_exporter"), "--from=builder /port_exporter /port_exporter"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	for _, label := range []string{"title", "description", "source", "licenses", "version", "revision", "created"} {
		if !strings.Contains(final.find("LABEL"), "org.opencontainers.image."+label+"=") {
			t.Errorf("no label %s", label)
		}
	}
}

// A build argument is empty in a stage that does not declare it.
func TestDockerfileArguments(t *testing.T) {
	for _, s := range readDockerfile(t) {
		for _, in := range s.instructions {
			for _, m := range regexp.MustCompile(`\$\{?(\w+)\}?`).FindAllStringSubmatch(in.rest, -1) {
				if s.find("ARG", m[1]) == "" {
					t.Errorf("stage %s uses %s without ARG", s.image, m[1])
				}
			}
		}
	}
}

func TestDockerfileSources(t *testing.T) {
	stages := readDockerfile(t)
	for i, s := range stages {
		for _, in := range s.instructions {
			if in.keyword != "COPY" {
				continue
			}
			words := strings.Fields(in.rest)
			if from, ok := strings.CutPrefix(words[0], "--from="); ok {
				if !slices.ContainsFunc(stages[:i], func(s stage) bool { return s.name == from }) {
					t.Errorf("COPY %s: no such stage before", in.rest)
				}
				continue
			}
			for _, source := range words[:len(words)-1] {
				glob(t, filepath.Join("../..", source))
				if slices.Contains(dockerIgnored(t), source) {
					t.Errorf("COPY %s: .dockerignore leaves it out", source)
				}
			}
		}
	}
}

// What the build compiles or embeds must be sent to it.
func TestDockerignoreKeepsTheSource(t *testing.T) {
	const format = `{{if and .Module .Module.Main}}{{.ImportPath}}{{end}}`
	const module = "github.com/port-exporter/port_exporter/"
	for pkg := range strings.Lines(output(t, "go", "list", "-C", "../..", "-deps", "-f", format, ".")) {
		dir, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(pkg), module), "/")
		if slices.Contains(dockerIgnored(t), dir) {
			t.Errorf("package %s is in .dockerignore", pkg)
		}
	}
}

// copyUnits copies the units to a directory where what they start exists.
func copyUnits(t *testing.T, dropIns []string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"port_exporter.service", "port_exporter.socket"}
	for _, name := range dropIns {
		names = append(names, "port_exporter.service.d/"+name)
	}
	dir := t.TempDir()
	for _, name := range names {
		text := strings.ReplaceAll(porttest.ReadFile(t, filepath.Join(units, name)), "/usr/bin/port_exporter", self)
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func systemdAnalyze(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIP-SYSTEMD: systemd-analyze is not in PATH")
	}
	return path
}

// setting returns the value that a unit gives a key, empty if it does not.
func setting(unit, key string) string {
	m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(unit)
	if m == nil {
		return ""
	}
	return m[1]
}

type (
	dockerfile  []stage
	instruction struct{ keyword, rest string }
	stage       struct {
		image, name  string
		instructions []instruction
	}
)

func readDockerfile(t *testing.T) dockerfile {
	t.Helper()
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(porttest.ReadFile(t, "../../Dockerfile"), "")
	text = regexp.MustCompile(`\s*\\\n\s*`).ReplaceAllString(text, " ")
	var out dockerfile
	for line := range strings.Lines(text) {
		keyword, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case keyword == "":
		case keyword == "FROM":
			image, name, _ := strings.Cut(rest, " AS ")
			out = append(out, stage{image: image, name: name})
		case len(out) == 0:
			t.Fatalf("Dockerfile: %s before FROM", keyword)
		default:
			last := &out[len(out)-1]
			last.instructions = append(last.instructions, instruction{keyword, rest})
		}
	}
	if len(out) != 2 {
		t.Fatalf("Dockerfile: %d stages, want 2", len(out))
	}
	return out
}

func (d dockerfile) last() stage { return d[len(d)-1] }

// find returns what follows the first such keyword whose line has all the parts.
func (s stage) find(keyword string, parts ...string) string {
	for _, in := range s.instructions {
		missing := func(part string) bool { return !strings.Contains(in.rest, part) }
		if in.keyword == keyword && !slices.ContainsFunc(parts, missing) {
			return in.rest
		}
	}
	return ""
}

func dockerIgnored(t *testing.T) []string {
	t.Helper()
	return strings.Split(porttest.ReadFile(t, "../../.dockerignore"), "\n")
}
