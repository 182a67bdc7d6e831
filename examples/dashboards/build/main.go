// Command build writes the dashboards, in the JSON that Grafana imports:
//
//	go run -C examples/dashboards/build . -to ..
//
// A board is a list of rows of panels, as limits.go and its siblings have them.
// What all panels share is in build.go: Grafana's settings, links from a row to its
// service and host, the colours of a cell. The selectors of the chosen hosts are
// added to each metric by the labels that docs/metrics.md says it has.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	to := flag.String("to", "..", "the directory to write to")
	metrics := flag.String("metrics", "../../../docs/metrics.md", "the document that has the labels of each metric")
	flag.Parse()
	if err := run(*to, *metrics); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func boards() []board {
	return []board{connections(), listeners(), limits(), health(), probes(), fleet()}
}

func run(to, metrics string) error {
	register()
	labels, err := readLabels(metrics)
	if err != nil {
		return err
	}
	for _, b := range boards() {
		text, err := b.encode(labels)
		if err != nil {
			return fmt.Errorf("%s: %w", b.file, err)
		}
		if err := os.WriteFile(filepath.Join(to, b.file+".json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// register makes known what the boards are made of, so that they can be decoded.
func register() {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(table.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
}

// encode returns the JSON of a board, once Grafana's schema has accepted it: no
// field is missing, unknown or of another type.
func (b board) encode(labels families) ([]byte, error) {
	built, err := b.build(labels)
	if err != nil {
		return nil, err
	}
	if err := built.Validate(); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(built); err != nil {
		return nil, err
	}
	var decoded dashboard.Dashboard
	var wrong cog.BuildErrors // empty where nothing is wrong, and not nil
	if err := decoded.UnmarshalJSONStrict(text.Bytes()); err != nil && (!errors.As(err, &wrong) || len(wrong) > 0) {
		return nil, err
	}
	return text.Bytes(), nil
}
