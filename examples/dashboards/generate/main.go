// Command generate writes the Grafana dashboards.
//
// Each dashboard is a file here that is named after it; board.go says what
// they are made of, and grafana.go turns them into Grafana's JSON, the same
// bytes on every run. They go to the directory that is the only argument, each
// to a file that is named after its title:
//
//	go run ./examples/dashboards/generate examples/dashboards
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run . ..

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run renders everything before it opens a file, so that a mistake does not
// leave half of the dashboards behind.
func run(args []string) error {
	if len(args) != 1 {
		return errors.New("want one argument, the directory to write to")
	}
	files := map[string][]byte{}
	for _, b := range boards() {
		text, err := render(b.json())
		if err != nil {
			return fmt.Errorf("%s: %w", b.title, err)
		}
		files[b.file()] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(args[0], name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render leaves < and > as they are: PromQL is full of them.
func render(d dashboard) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
