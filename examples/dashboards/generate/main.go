// Command generate writes the Grafana dashboard "Ports and sockets".
//
// The dashboard is panels.go; grafana.go turns it into Grafana's JSON, the same
// bytes on every run. It goes to the file named as the only argument, else to
// standard output:
//
//	go run ./examples/dashboards/generate examples/dashboards/ports-and-sockets.json
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

//go:generate go run . ../ports-and-sockets.json

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run renders everything before it opens the file, so that a mistake does not
// leave half a dashboard behind.
func run(args []string, stdout io.Writer) error {
	text, err := render(newDashboard(sections()))
	if err != nil {
		return err
	}
	if len(args) == 0 {
		_, err = stdout.Write(text)
		return err
	}
	return os.WriteFile(args[0], text, 0o644)
}

// render leaves < and > as they are: PromQL is full of them.
func render(d dashboard) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("encode dashboard: %w", err)
	}
	return buf.Bytes(), nil
}
