package rival

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	blackboxModule  = "github.com/prometheus/blackbox_exporter"
	blackboxVersion = "v0.28.0"
	ourModule       = "github.com/port-exporter/port_exporter"
)

// The tests of blackbox_exporter for the probers that ours take the place of.
const (
	blackboxStreams = "^(TestTCP|TestPrometheusTimeoutTCP|TestUnix)"
	// Without TestRedirectToTLSHostWorks, which asks a server on the internet.
	blackboxHTTP = "^(TestHTTP|TestValidHTTP|TestContentLength|TestHandlingOfCompressionSetting|TestMaxResponseLength|TestRedirectFollowed|TestRedirectNotFollowed|TestRedirectionLimit|TestPost|TestBasicAuth|TestBearerToken|TestFailIf|TestSucceedIf|TestTLSConfigIsIgnored|TestCookieJar|TestSkipResolvePhase|TestBody$)"
	blackboxDNS  = "^(Test.*DNS)"
	blackboxGRPC = "^(TestGRPC|TestMultipleGRPCservices|TestNoTLSConnection)"
)

var blackboxStreamTests = []string{
	"TestPrometheusTimeoutTCP",
	"TestTCPConnection",
	"TestTCPConnectionFails",
	"TestTCPConnectionProtocol",
	"TestTCPConnectionQueryResponseByteMode",
	"TestTCPConnectionQueryResponseByteModeFail",
	"TestTCPConnectionQueryResponseIRC",
	"TestTCPConnectionQueryResponseMatching",
	"TestTCPConnectionQueryResponseStartTLS",
	"TestTCPConnectionWithTLS",
	"TestTCPConnectionWithTLSAndVerifiedCertificateChain",
	"TestTCPHostnameParam",
	"TestUnixConnection",
	"TestUnixConnectionFails",
}

var blackboxHTTPTests = []string{
	"TestBasicAuth",
	"TestBearerToken",
	"TestBody",
	"TestContentLength",
	"TestCookieJar",
	"TestFailIfBodyMatchesCEL",
	"TestFailIfBodyMatchesRegexp",
	"TestFailIfBodyNotMatchesCEL",
	"TestFailIfBodyNotMatchesRegexp",
	"TestFailIfHeaderMatchesRegexp",
	"TestFailIfHeaderNotMatchesRegexp",
	"TestFailIfNotSSL",
	"TestFailIfNotSSLLogMsg",
	"TestFailIfSelfSignedCA",
	"TestHTTP3ProbeQUIC",
	"TestHTTPHeaders",
	"TestHTTPPhases",
	"TestHTTPStatusCodes",
	"TestHTTPUsesTargetAsTLSServerName",
	"TestHandlingOfCompressionSetting",
	"TestMaxResponseLength",
	"TestPost",
	"TestRedirectFollowed",
	"TestRedirectNotFollowed",
	"TestRedirectionLimit",
	"TestSkipResolvePhase",
	"TestSucceedIfSelfSignedCA",
	"TestTLSConfigIsIgnoredForPlainHTTP",
	"TestValidHTTPVersion",
	"TestValidHTTPVersionsQUIC",
}

var blackboxDNSTests = []string{
	"TestAuthoritativeDNSResponse",
	"TestDNSMetrics",
	"TestDNSProtocol",
	"TestRecursiveDNSResponse",
	"TestServfailDNSResponse",
}

var blackboxGRPCTests = []string{
	"TestGRPCAbsentFailedTLS",
	"TestGRPCConnection",
	"TestGRPCConnectionWithMetadata",
	"TestGRPCHealthCheckUnimplemented",
	"TestGRPCServiceNotFound",
	"TestGRPCTLSConnection",
	"TestMultipleGRPCservices",
	"TestNoTLSConnection",
}

// TestBlackbox runs the unmodified tests of blackbox_exporter's tcp, unix, http,
// dns and grpc probers against ours. Its package is copied to a temporary module,
// which is called as if it stood below ours so that it may import internal
// packages, and our shim takes the place of its five probers.
func TestBlackbox(t *testing.T) {
	source := moduleDir(t)
	dir := t.TempDir()
	copyPackage(t, filepath.Join(source, "prober"), filepath.Join(dir, "prober"))
	writeModule(t, source, dir)
	if out, err := goCommand(t, dir, "list", "-deps", "-test", "./prober").CombinedOutput(); err != nil {
		t.Skipf("SKIP-BLACKBOX: its dependencies are not to be had: %v\n%s", err, out)
	}
	binary := filepath.Join(dir, "prober.test")
	if out, err := goCommand(t, dir, "test", "-c", "-o", binary, "./prober").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const both = "127.0.0.1 localhost\n::1 localhost\n" // one of the tests skips itself without
	for _, tt := range []struct {
		name, run, hosts string
		want             []string
	}{
		{"tcp and unix", blackboxStreams, both, blackboxStreamTests},
		{"http", blackboxHTTP, both, blackboxHTTPTests},
		{"dns", blackboxDNS, both, blackboxDNSTests},
		// Its grpc tests listen on localhost and want an address of IPv6 for it. The
		// original looks localhost up once more to connect, so that the two need not
		// be the same; here they have to be.
		{"grpc", blackboxGRPC, "::1 localhost\n", blackboxGRPCTests},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.run", tt.run)
			cmd.Dir, cmd.Env = filepath.Join(dir, "prober"), append(os.Environ(), "CI=") // its tests of names want IPv6, and say so by CI
			if !withHosts(t, cmd, tt.hosts) && tt.name == "grpc" {
				t.Skip("SKIP-BLACKBOX: no mount namespace in which localhost is ::1")
			}
			runTests(t, cmd, tt.want)
		})
	}
}

// runTests runs a test command and compares which tests ran.
func runTests(t *testing.T, cmd *exec.Cmd, want []string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	var ran []string
	for _, match := range regexp.MustCompile(`(?m)^--- (PASS|SKIP): (\w+)`).FindAllSubmatch(out, -1) {
		if string(match[1]) == "SKIP" {
			t.Logf("SKIP-BLACKBOX: %s skipped itself", match[2])
		}
		ran = append(ran, string(match[2]))
	}
	slices.Sort(ran)
	if diff := cmp.Diff(want, ran); diff != "" {
		t.Errorf("tests that ran (-want +got):\n%s\n%s", diff, out)
	}
}

// withHosts gives a command an /etc/hosts of its own, where it may have a mount
// namespace, and reports whether it does.
func withHosts(t *testing.T, cmd *exec.Cmd, text string) bool {
	t.Helper()
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	wrap := []string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts}
	path, err := exec.LookPath(wrap[0])
	if err != nil || exec.CommandContext(t.Context(), path, append(wrap[1:], "true")...).Run() != nil {
		return false
	}
	cmd.Args = append(append(wrap, cmd.Path), cmd.Args[1:]...)
	cmd.Path = path
	return true
}

// moduleDir returns where the sources of blackbox_exporter are.
func moduleDir(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Skipf("SKIP-BLACKBOX: no go command: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), blackboxModule+"@"+blackboxVersion)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIP-BLACKBOX: not in the module cache; go mod download %s@%s", blackboxModule, blackboxVersion)
	}
	return dir
}

// copyPackage copies a package, with our shim instead of its tcp, unix and
// grpc probers. The module cache is read-only; the copy is not.
func copyPackage(t *testing.T, from, to string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(from, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", from, err)
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		switch name := filepath.Base(file); name {
		case "tcp.go":
			copyFile(t, "testdata/upstream/shim.go.txt", filepath.Join(to, name))
		case "unix.go", "grpc.go", "http.go", "dns.go":
		default:
			copyFile(t, file, filepath.Join(to, name))
		}
	}
}

// writeModule writes a go.mod that takes blackbox_exporter as it is and this
// module from its folder, with the checksums that both know.
func writeModule(t *testing.T, source, dir string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("module %[1]s/blackboxshim\n\ngo 1.26.0\n\nrequire (\n\t%[1]s v0.0.0\n\t%[2]s %[3]s\n)\n\nreplace %[1]s => %[4]s\n",
		ourModule, blackboxModule, blackboxVersion, root)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var sums []byte
	for _, module := range []string{root, source} {
		b, err := os.ReadFile(filepath.Join(module, "go.sum"))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, b...)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// goCommand runs go in the temporary module, which may complete its go.mod.
func goCommand(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -trimpath", "GOWORK=off")
	return cmd
}
