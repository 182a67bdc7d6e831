package probetest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// traced is a line of five routers of which the third drops what is for the server, and
// the target there.
func traced(t *testing.T) (target string) {
	t.Helper()
	const dropping = 3
	l := porttest.NewLine(t, 5)
	service := porttest.LineAddr(porttest.Services, 1, false)
	l.Nodes[dropping].Do(t, func() { porttest.Filter(t, "forward", fmt.Sprintf("ip daddr %s drop", service)) })
	return service.String() + ":80"
}

// readable makes a configuration file that every user can read.
func readable(t *testing.T, text string) string {
	t.Helper()
	file := porttest.OpenDir(t) + "/port_exporter.yml"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestTraceOfTargetInNamespace has the program, without privilege, trace a target of a
// scrape that does not answer, and compares its metrics with those in docs/diagnosis.md.
func TestTraceOfTargetInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	target := traced(t)
	file := readable(t, "modules: {web: {prober: tcp, trace: true, timeout: 1s}}\ntargets: [{address: \""+target+"\", module: web}]\n")
	porttest.StartDaemonAs(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, "port_exporter", "--config.file="+file)
	document, err := os.ReadFile("docs/diagnosis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(document), "TestTraceOfTargetInNamespace. -->\n```\n")
	documented, _, _ := strings.Cut(after, "```")
	var found string
	for deadline := time.Now().Add(time.Minute); found == "" && time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		_, body := porttest.Get(t, porttest.ScrapeAddress, "/metrics?collect[]=probes")
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "probe_trace_") || strings.HasPrefix(line, "probe_path_mtu_bytes") {
				found += line
			}
		}
	}
	for line := range strings.Lines(documented) {
		if !strings.Contains(found, line) {
			t.Errorf("docs/diagnosis.md has %swhere the program exports\n%s", line, found)
		}
	}
	if documented == "" {
		t.Error("docs/diagnosis.md shows no metrics of a trace")
	}
	for _, page := range []string{"/target?module=web&target=" + target, "/probe?module=web&debug=true&target=" + target} {
		if _, body := porttest.Get(t, porttest.ScrapeAddress, page); !strings.Contains(body, "3: 10.1.2.2") || !strings.Contains(body, "dies behind 10.1.2.2, hop 3 of the path") {
			t.Errorf("%s does not show the path:\n%s", page, body)
		}
	}
}

// TestCheckTraceInNamespace traces by the command, without privilege, and compares what it
// says with the session in docs/diagnosis.md.
func TestCheckTraceInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	target := traced(t)
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	command := []string{"port_exporter", "check", "--trace", "--timeout=1s", target}
	out, said, status := porttest.EndedAs(t, nobody, command...)
	document, err := os.ReadFile("docs/diagnosis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(document), "TestCheckTraceInNamespace. -->\n```console\n")
	documented, _, _ := strings.Cut(after, "```")
	changing := regexp.MustCompile(`\d+(\.\d+)? m?s\b(, SYN sent 2 times)?|is \w+ in the table`) // the SYN is sent again after a second
	got := changing.ReplaceAllString("$ "+strings.Join(command, " ")+"\n"+out, "…")
	if diff := cmp.Diff(changing.ReplaceAllString(documented, "…"), got); diff != "" || status != 1 {
		t.Errorf("status %d, said %q, docs/diagnosis.md (-) and the program (+)\n%s\n%s", status, said, diff, out)
	}

	out, _, _ = porttest.EndedAs(t, nobody, "port_exporter", "check", "--trace", "--timeout=1s", "--output=json", target)
	var path struct {
		Verdict string
		Path    struct {
			Finding string
			MTU     int
			Hops    []struct{ Address string }
		}
	}
	if err := json.Unmarshal([]byte(out), &path); err != nil {
		t.Fatal(err)
	}
	if p := path.Path; path.Verdict != "path_drops" || p.Finding != "path_drops" || p.MTU != 1500 || len(p.Hops) != 3 || p.Hops[2].Address != "10.1.2.2" {
		t.Errorf("%s\n%+v", out, path)
	}
}

// TestCheckOfBlackHoleInNamespace has a service whose first segment is larger than a link
// on its way, and routers that do not report it: it accepts, and nothing comes.
func TestCheckOfBlackHoleInNamespace(t *testing.T) {
	l := porttest.NewLine(t, 3)
	l.Narrow(t, 2, 1300)
	for _, router := range l.Nodes[2:4] {
		router.Do(t, func() { porttest.Filter(t, "output", "icmp type destination-unreachable drop") })
	}
	target := porttest.LineAddr(porttest.Services, 1, false).String() + ":22"
	l.Nodes[4].Do(t, func() {
		accept(t, target, func(c net.Conn) { _, _ = c.Write(bytes.Repeat([]byte("SSH"), 2000)); _, _ = io.Copy(io.Discard, c) })
	})
	out, said, status := porttest.EndedAs(t, nil, "port_exporter", "check", "--trace", "--module=ssh_banner", "--timeout=2s", target)
	headline, rest, _ := strings.Cut(out, "\n")
	if status != 1 || headline != target+" accepts connections, and large packets are lost on the way: at most 1300 bytes pass." ||
		!strings.Contains(rest, "packets of 1320 bytes die in silence behind 10.1.1.2 (hop 2), those of 1300 pass") {
		t.Errorf("status %d, said %q\n%s", status, said, out)
	}
}
