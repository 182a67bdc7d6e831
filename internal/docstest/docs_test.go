package docstest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/cli"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

const (
	root   = "../.."
	readme = root + "/README.md"
	module = "github.com/port-exporter/port_exporter/"
	// migrating is the document for those who have a blackbox_exporter.
	migrating = "migrating-from-blackbox_exporter.md"
)

func TestFlags(t *testing.T) {
	flags := flagDefaults(t)
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`--.*?) \\| (.*?) ?\\|").FindAllStringSubmatch(porttest.ReadFile(t, readme), -1) {
		for _, name := range regexp.MustCompile("`--([a-z.-]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[name[1]] = strings.Trim(row[2], "`")
		}
	}
	if diff := cmp.Diff(flags, documented); diff != "" {
		t.Errorf("flags and their defaults (-code +README):\n%s", diff)
	}

	// Every document, the flags of other programs left out: ours have a dot. The one of
	// blackbox_exporter that is ignored stands in one document.
	const ignored = "log.prober"
	for _, file := range documents(t) {
		for _, name := range regexp.MustCompile(`--(?:no-)?([a-z]+(?:\.[a-z-]+)+)`).FindAllStringSubmatch(porttest.ReadFile(t, file), -1) {
			if _, ok := flags[name[1]]; !ok && (filepath.Base(file) != migrating || name[1] != ignored) {
				t.Errorf("%s: there is no flag --%s", file, name[1])
			}
		}
	}
}

// flagDefaults returns the default of every flag that --help shows, those of the
// commands apart, on the system where there are most.
func flagDefaults(t *testing.T) map[string]string {
	t.Helper()
	flags := map[string]string{"web.systemd-socket": ""}
	for _, f := range cli.Model().Flags {
		if !f.Hidden {
			flags[f.Name] = strings.Join(f.Default, ",")
		}
	}
	return flags
}

func TestEndpoints(t *testing.T) {
	text := porttest.ReadFile(t, readme)
	found := regexp.MustCompile(`prefix ?\+ ?"(/[^"{]+)"`).FindAllStringSubmatch(porttest.ReadFile(t, root+"/internal/web/handler.go"), -1)
	if len(found) == 0 {
		t.Fatal("handler.go: no endpoint found")
	}
	for _, m := range found {
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("README.md lacks the endpoint %s", m[1])
		}
	}
}

func TestMetricsExist(t *testing.T) {
	var families []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(port_[a-z0-9_]+)` \\|").FindAllStringSubmatch(porttest.ReadFile(t, root+"/docs/metrics.md"), -1) {
		families = append(families, row[1])
	}
	if len(families) == 0 {
		t.Fatal("docs/metrics.md has no table of metrics")
	}
	for _, file := range documents(t) {
		for _, name := range metricNames(porttest.ReadFile(t, file)) {
			if !slices.Contains(families, name) {
				t.Errorf("%s: no metric %s in docs/metrics.md", file, name)
			}
		}
	}
}

// metricNames returns the names of our metrics in a text, without the name of
// the program, the series that rules record, and patterns of names.
func metricNames(text string) []string {
	text = regexp.MustCompile(`\b[a-z_]+:port_[a-z_]+:[a-z0-9]+\b|\bport_[a-z0-9_]*\*[a-z0-9_*]*`).ReplaceAllString(text, "")
	names := regexp.MustCompile(`\bport_[a-z0-9_]+`).FindAllString(text, -1)
	names = slices.DeleteFunc(names, func(name string) bool { return name == "port_exporter" })
	slices.Sort(names)
	return slices.Compact(names)
}

func TestLinksResolve(t *testing.T) {
	for _, file := range documents(t) {
		text := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(porttest.ReadFile(t, file), "")
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // a URL
			}
			to := file
			if target != "" {
				to = filepath.Join(filepath.Dir(file), filepath.FromSlash(target))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: the link %s leads nowhere", file, m[1])
			} else if anchor != "" && !slices.Contains(anchors(porttest.ReadFile(t, to)), anchor) {
				t.Errorf("%s: the link %s: no such heading", file, m[1])
			}
		}
	}
}

// anchors returns the names that a heading is linked by.
func anchors(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		kept := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(kept, " ", "-"))
	}
	return out
}

func TestTwoCommands(t *testing.T) {
	blocks := fences(porttest.ReadFile(t, readme), "sh")
	for _, command := range []string{"go run .", "go test ./..."} {
		if !slices.Contains(blocks, command+"\n") {
			t.Errorf("README.md has no block that is %q", command)
		}
	}
}

func TestMakeTargets(t *testing.T) {
	var targets, documented []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9-]+):.* ## `).FindAllStringSubmatch(porttest.ReadFile(t, root+"/Makefile"), -1) {
		targets = append(targets, m[1])
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `make ([a-z0-9-]+)` \\|").FindAllStringSubmatch(porttest.ReadFile(t, root+"/CONTRIBUTING.md"), -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(targets)
	slices.Sort(documented)
	if diff := cmp.Diff(targets, documented); diff != "" {
		t.Errorf("make targets (-Makefile +CONTRIBUTING.md):\n%s", diff)
	}
}

// TestRooms compares the table of docs/architecture.md with the packages there are
// and to what they import of each other.
func TestRooms(t *testing.T) {
	documented := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z./]+)` \\|[^|]*\\|([^|]*)\\|$").FindAllStringSubmatch(porttest.ReadFile(t, root+"/docs/architecture.md"), -1) {
		imports := []string{}
		for _, m := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(row[2], -1) {
			imports = append(imports, m[1])
		}
		documented[row[1]] = imports
	}
	if diff := cmp.Diff(packages(t), documented); diff != "" {
		t.Errorf("packages and what they import of ours (-code +docs/architecture.md):\n%s", diff)
	}
}

// packages returns what each package imports of the others, tests apart, for
// every operating system. The key is its folder, or main.go.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, file := range files(t, ".go") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		relative, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		place := filepath.ToSlash(relative) + "/"
		if place == "./" {
			place = "main.go"
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		imports := append([]string{}, out[place]...) // not nil: a room that imports nothing
		for _, i := range parsed.Imports {
			if name, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module); ours {
				imports = append(imports, path.Base(name))
			}
		}
		slices.Sort(imports)
		out[place] = slices.Compact(imports)
	}
	return out
}

func TestQueries(t *testing.T) {
	var queries []string
	for _, file := range documents(t) {
		for _, block := range fences(porttest.ReadFile(t, file), "promql") {
			queries = slices.AppendSeq(queries, strings.SplitSeq(strings.TrimSpace(block), "\n\n"))
		}
	}
	porttest.CheckQueries(t, queries)
}

// TestYAML takes each block of YAML in README.md for what its first key says it
// is.
func TestYAML(t *testing.T) {
	checks := map[string]func(t *testing.T, text string){
		"limits": func(t *testing.T, text string) {
			got, err := config.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(config.Default().Limits, got.Limits); diff != "" {
				t.Errorf("defaults (-code +README):\n%s", diff)
			}
		},
		"destinations": func(t *testing.T, text string) {
			got, err := config.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if d := got.Destinations; d.MinShare != config.Default().Destinations.MinShare || len(d.Watched) != 3 {
				t.Errorf("read as %+v", d)
			}
		},
		"scrape_configs": func(t *testing.T, text string) { porttest.Promtool(t, text, "check", "config", "--syntax-only") },
		"tls_server_config": func(t *testing.T, text string) { // keys only: its files are not there
			decoder := yaml.NewDecoder(strings.NewReader(text))
			decoder.KnownFields(true)
			if err := decoder.Decode(&toolkit.Config{}); err != nil {
				t.Error(err)
			}
		},
	}
	blocks := fences(porttest.ReadFile(t, readme), "yaml")
	if len(blocks) == 0 {
		t.Fatal("README.md has no YAML")
	}
	for _, block := range blocks {
		key, _, _ := strings.Cut(block, ":")
		t.Run(key, func(t *testing.T) {
			check, ok := checks[key]
			if !ok {
				t.Fatalf("no test knows what this is:\n%s", block)
			}
			check(t, block)
		})
	}
}

// TestConfigurationYAML reads each block of YAML in the documents on probes, the
// policy and certificates as a configuration, beside a file of blackbox_exporter.
func TestConfigurationYAML(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "blackbox.yml"), []byte("modules: {http_basic: {prober: http}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"probes.md", "policy.md", "certificates.md"} {
		blocks := fences(porttest.ReadFile(t, root+"/docs/"+name), "yaml")
		if len(blocks) == 0 {
			t.Errorf("docs/%s has no YAML", name)
		}
		for _, block := range blocks {
			c, err := config.ParseIn(dir, []byte(block))
			if err != nil {
				t.Errorf("docs/%s: %v\n%s", name, err, block)
			} else if c.Warnings != nil {
				t.Errorf("docs/%s: warnings: %q\n%s", name, c.Warnings, block)
			}
		}
	}
}

func TestBuiltInModulesAreDocumented(t *testing.T) {
	text := porttest.ReadFile(t, root+"/docs/probes.md")
	for name := range config.Default().Modules {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/probes.md lacks the module %s", name)
		}
	}
}

// TestMigratingYAML reads the blocks of YAML in the document for those who have a
// blackbox_exporter: one for us, one for Prometheus.
func TestMigratingYAML(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "blackbox.yml"), []byte("modules: {http_basic: {prober: http}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks := fences(porttest.ReadFile(t, root+"/docs/"+migrating), "yaml")
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of YAML, want 2", len(blocks))
	}
	if c, err := config.ParseIn(dir, []byte(blocks[0])); err != nil || c.Warnings != nil || c.Modules["http_basic"] == nil {
		t.Errorf("%v, warnings %q\n%s", err, c.Warnings, blocks[0])
	}
	porttest.Promtool(t, blocks[1], "check", "config", "--syntax-only")
}

// TestDiscoveryYAML reads the block of YAML in docs/discovery.md, and holds the
// labels that it names to those that there are.
func TestDiscoveryYAML(t *testing.T) {
	text := porttest.ReadFile(t, root+"/docs/discovery.md")
	blocks := fences(text, "yaml")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of YAML, want 1", len(blocks))
	}
	porttest.Promtool(t, blocks[0], "check", "config", "--syntax-only")
	for _, f := range collector.Families() {
		for _, label := range f.Labels {
			if f.Name == "port_listener_info" && !strings.Contains(text, "`"+label+"`") {
				t.Errorf("docs/discovery.md lacks the label %s", label)
			}
		}
	}
}

// TestKubernetesYAML reads the scrape configuration in docs/kubernetes.md, without the
// discovery: Debian's promtool is built without Kubernetes.
func TestKubernetesYAML(t *testing.T) {
	blocks := fences(porttest.ReadFile(t, root+"/docs/kubernetes.md"), "yaml")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of YAML, want 1", len(blocks))
	}
	const pods = "kubernetes_sd_configs:\n      - role: pod\n"
	if !strings.Contains(blocks[0], pods) {
		t.Fatalf("it has not %q", pods)
	}
	text := strings.Replace(blocks[0], pods, "static_configs:\n      - targets: [localhost:10065]\n", 1)
	porttest.Promtool(t, text, "check", "config", "--syntax-only")
}

// fences returns the code blocks of a language.
func fences(text, language string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// documents returns every Markdown file of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	return files(t, ".md")
}

// files returns the files of the repository with an extension, without those
// of hidden folders, of tests' data and of the build.
func files(t *testing.T, extension string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "build"):
			return fs.SkipDir
		case !entry.IsDir() && filepath.Ext(name) == extension:
			out = append(out, file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("no file ends in %s", extension)
	}
	return out
}
