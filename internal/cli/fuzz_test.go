package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzOutputs writes any text as the names of a listener: as JSON and CSV it can be
// read again, a table has its lines and nothing that a terminal acts upon.
func FuzzOutputs(f *testing.F) {
	for _, text := range []string{"nginx", "\x1b[31m", "\u202e", "\xff\xfe", "=cmd|'/C calc'", "a\nb", " ", "\"", ",", "\u2028"} {
		f.Add(text, text, text)
	}
	f.Fuzz(func(t *testing.T, process, device, unit string) {
		rows := []row{{Protocol: "tcp", Address: "127.0.0.1", Port: 1, Interface: device, Process: process, Unit: unit, User: process, Container: unit, Executable: device,
			Netns: unit, Runs: &namespaceRow{Runtime: unit, ContainerID: device, Container: process, Pod: device, Namespace: process, PodUID: unit, Unit: unit}}}
		var table, text, cells bytes.Buffer
		if err := writeTable(&table, &judged{rows: rows, hasPolicy: false}, false); err != nil {
			t.Fatal(err)
		}
		if err := writeJSON(&text, &judged{rows: rows, read: &reading{}}); err != nil {
			t.Fatal(err)
		}
		if err := writeCSV(&cells, &judged{rows: rows}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(table.String(), "\n"); n != 2 {
			t.Errorf("the table has %d lines:\n%q", n, &table)
		}
		for name, b := range map[string]*bytes.Buffer{"table": &table, "JSON": &text, "CSV": &cells} {
			if strings.ContainsAny(b.String(), "\x1b\x00\x7f\u0085\u009b\u202e") || !utf8.Valid(b.Bytes()) {
				t.Errorf("%s: %q", name, b)
			}
		}
		var back savedTable
		if err := json.Unmarshal(text.Bytes(), &back); err != nil || len(back.Listeners) != 1 {
			t.Errorf("JSON: %v\n%s", err, &text)
		}
		records, err := csv.NewReader(&cells).ReadAll()
		if err != nil || len(records) != 2 {
			t.Errorf("CSV: %d records, %v", len(records), err)
		}
	})
}
