// Package kubernetes has the manifests that make chart renders from the Helm chart, and
// their tests.
package kubernetes

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringalpha "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	root  = "../.."
	chart = "../helm/port-exporter"
	sums  = "chart.sum"
	rules = "port-exporter-rules.yaml"
)

var update = flag.Bool("update", false, "write the PrometheusRule")

// TestRenderedFromTodaysChart compares the sums of what the manifests are rendered from,
// and of the manifests, with those of the last rendering: helm takes minutes to build, so
// CI does not render.
func TestRenderedFromTodaysChart(t *testing.T) {
	var got strings.Builder
	for _, name := range sources(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		fmt.Fprintf(&got, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	}
	want, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("the manifests are not those of the chart: run make chart (-then +now):\n%s", diff)
	}
}

// sources are the files of the chart without the rules, the values of the renderings, and
// the manifests.
func sources(t *testing.T) (out []string) {
	t.Helper()
	for _, dir := range []string{chart, chart + "/templates", ".", "testdata"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			name := filepath.Join(dir, entry.Name())
			if entry.Type().IsRegular() && !slices.Contains([]string{"go.mod", "go.sum", sums, rules, "manifests_test.go"}, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestStrict decodes all manifests and examples with the types of Kubernetes and of the
// Prometheus operator: an unknown or a repeated field, or a value of another type, is an
// error.
func TestStrict(t *testing.T) {
	decode := decoder(t)
	kinds := map[string]int{}
	for _, file := range manifests(t) {
		for _, text := range documents(t, file) {
			object, err := decode(text)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			kinds[object.GetObjectKind().GroupVersionKind().Kind]++
		}
	}
	for _, kind := range []string{"DaemonSet", "ConfigMap", "ServiceAccount", "NetworkPolicy", "PodMonitor", "PrometheusRule", "ScrapeConfig", "Probe"} {
		if kinds[kind] == 0 {
			t.Errorf("no manifest has a %s", kind)
		}
	}
	for _, wrong := range []string{
		"apiVersion: apps/v1\nkind: DaemonSet\nspec: {template: {spec: {hostPid: true}}}\n",
		"apiVersion: apps/v1\nkind: DaemonSet\nspec: {template: {spec: {hostPID: \"true\"}}}\n",
		"apiVersion: v1\nkind: ConfigMap\ndata: {a: b, a: c}\n",
		"apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nspec: {podMetricsEndpoints: [{honorLabel: true}]}\n",
		"apiVersion: v1\nkind: Daemon\n",
	} {
		if _, err := decode([]byte(wrong)); err == nil {
			t.Errorf("accepted:\n%s", wrong)
		}
	}
}

func decoder(t *testing.T) func([]byte) (runtime.Object, error) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{core.AddToScheme, apps.AddToScheme, networking.AddToScheme, monitoring.AddToScheme, monitoringalpha.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	return func(text []byte) (runtime.Object, error) {
		object, _, err := strict.Decode(text, nil, nil)
		return object, err
	}
}

// manifests are all files of Kubernetes.
func manifests(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"*.yaml", "testdata/*.yaml", root + "/examples/kubernetes/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		out = append(out, files...)
	}
	return slices.DeleteFunc(out, func(name string) bool { return strings.HasSuffix(name, ".values.yaml") })
}

func documents(t *testing.T, file string) (out [][]byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for reader := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if strings.Contains(string(document), "kind:") {
			out = append(out, document)
		}
	}
}

// TestRules compares the PrometheusRule with the files that promtool tests. The chart has
// the same files, by a link.
func TestRules(t *testing.T) {
	files, err := filepath.Glob(root + "/examples/rules/*.yml")
	if err != nil || len(files) < 7 {
		t.Fatalf("%v, %v", files, err)
	}
	var want strings.Builder
	want.WriteString(rulesHeader)
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, groups, ok := strings.Cut(string(text), "\ngroups:\n")
		if !ok {
			t.Fatalf("%s has no groups", file)
		}
		for line := range strings.Lines(groups) {
			if line != "\n" {
				line = "  " + line
			}
			want.WriteString(line)
		}
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".yml"))
	}
	if *update {
		if err := os.WriteFile(rules, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("go test . -update writes it anew (-want +got):\n%s", diff)
	}

	var values struct{ PrometheusRule struct{ Files []string } }
	text, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names, values.PrometheusRule.Files); diff != "" {
		t.Errorf("prometheusRule.files of the chart (-examples +values):\n%s", diff)
	}
}

// rulesHeader is what the chart makes, in the namespace of the other manifests.
const rulesHeader = `# Generated from examples/rules by go test ./... -update in packaging/kubernetes.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: port-exporter
  namespace: monitoring
  labels:
    app.kubernetes.io/name: port-exporter
    app.kubernetes.io/instance: port-exporter
    app.kubernetes.io/component: metrics
spec:
  groups:
`
