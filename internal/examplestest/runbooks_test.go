package examplestest

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const runbooks = "../../docs/runbooks"

// TestRunbooks looks for the section of each alert where its runbook_url leads, and
// for a section that no alert leads to.
func TestRunbooks(t *testing.T) {
	const base = "https://github.com/port-exporter/port_exporter/blob/main/docs/runbooks/"
	sections := readRunbooks(t)
	named := map[string]bool{}
	for alert, annotations := range readAnnotations(t) {
		page, ok := strings.CutPrefix(annotations["runbook_url"], base)
		section, found := sections[page]
		if !ok || !found || !strings.HasSuffix(page, "#"+strings.ToLower(alert)) {
			t.Errorf("%s: its runbook_url %q leads to no section of docs/runbooks", alert, annotations["runbook_url"])
			continue
		}
		named[page] = true
		for _, part := range []string{"**Meaning.** ", "**Impact.** ", "**What to do.** ", "```sh\n", "**False positives.** "} {
			if !strings.Contains(section, part) {
				t.Errorf("%s: its runbook lacks %q", alert, part)
			}
		}
	}
	for page := range sections {
		if !named[page] {
			t.Errorf("docs/runbooks/%s is of no alert", page)
		}
	}
}

// TestAlertsLinkToDashboards looks for the dashboard of each alert, and for the
// variables that the link sets.
func TestAlertsLinkToDashboards(t *testing.T) {
	variables := map[string][]string{}
	for _, d := range readDashboards(t) {
		for _, v := range d.Templating.List {
			variables["/d/"+d.UID] = append(variables["/d/"+d.UID], "var-"+v.Name)
		}
	}
	for alert, annotations := range readAnnotations(t) {
		link, err := url.Parse(regexp.MustCompile(`{{.*?}}`).ReplaceAllString(annotations["dashboard_url"], ""))
		if err != nil || variables[link.Path] == nil {
			t.Errorf("%s: its dashboard_url %q leads to no dashboard", alert, annotations["dashboard_url"])
			continue
		}
		for name := range link.Query() {
			if !slices.Contains(variables[link.Path], name) {
				t.Errorf("%s: its dashboard has no variable %s", alert, name)
			}
		}
	}
}

// readRunbooks returns the sections of all pages by "page.md#anchor".
func readRunbooks(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, file := range glob(t, runbooks+"/*.md") {
		for _, section := range strings.Split(porttest.ReadFile(t, file), "\n## ")[1:] {
			title, _, _ := strings.Cut(section, "\n")
			out[filepath.Base(file)+"#"+strings.ToLower(title)] = section
		}
	}
	return out
}

// readAnnotations returns those of each alert, those of examples/reachability too.
func readAnnotations(t *testing.T) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for _, file := range append(glob(t, rules), reachability+"/rules.yml") {
		var text struct {
			Groups []struct {
				Rules []struct {
					Alert       string
					Annotations map[string]string
				}
			}
		}
		content, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(content, &text)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, group := range text.Groups {
			for _, r := range group.Rules {
				if r.Alert != "" {
					out[r.Alert] = r.Annotations
				}
			}
		}
	}
	return out
}
