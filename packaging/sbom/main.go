// Command sbom prints what a Go program was built from, its bill of materials, as SPDX
// 2.3 in JSON (spdx.github.io/spdx-spec). It asks the program itself, by
// debug/buildinfo, so it lists what is linked in and no more. The same program gives the
// same bytes; SOURCE_DATE_EPOCH is the time of creation.
//
//	go run ./packaging/sbom port_exporter 1.0.0 > port_exporter.spdx.json
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: sbom PROGRAM VERSION")
	}
	info, err := buildinfo.ReadFile(args[0])
	if err != nil {
		return err
	}
	program, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	info.Main.Version = "v" + args[1] // go build knows it only at a tag
	out := json.NewEncoder(stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(describe(info, filepath.Base(args[0]), sha256.Sum256(program), time.Unix(seconds, 0)))
}

// The parts of SPDX that a program of Go has. What is not known is NOASSERTION.
type (
	document struct {
		Version       string         `json:"spdxVersion"`
		License       string         `json:"dataLicense"`
		ID            string         `json:"SPDXID"`
		Name          string         `json:"name"`
		Namespace     string         `json:"documentNamespace"`
		Creation      creation       `json:"creationInfo"`
		Packages      []component    `json:"packages"`
		Relationships []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	component struct {
		ID            string      `json:"SPDXID"`
		Name          string      `json:"name"`
		Version       string      `json:"versionInfo,omitempty"`
		Location      string      `json:"downloadLocation"`
		FilesAnalyzed bool        `json:"filesAnalyzed"`
		Checksums     []checksum  `json:"checksums,omitempty"`
		Declared      string      `json:"licenseDeclared"`
		Concluded     string      `json:"licenseConcluded"`
		Copyright     string      `json:"copyrightText"`
		References    []reference `json:"externalRefs"`
	}
	checksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	reference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	relationship struct {
		Of      string `json:"spdxElementId"`
		Type    string `json:"relationshipType"`
		Related string `json:"relatedSpdxElement"`
	}
)

const unknown = "NOASSERTION"

// describe has the program first, then the standard library and the modules, in the
// order of their paths.
func describe(info *debug.BuildInfo, name string, sum [sha256.Size]byte, created time.Time) document {
	digest := hex.EncodeToString(sum[:])
	program := newComponent(info.Main.Path, info.Main.Version)
	program.Declared = "Apache-2.0"
	program.Checksums = []checksum{{"SHA256", digest}}
	doc := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name,
		Namespace: "https://github.com/port-exporter/port_exporter/sbom/" + digest,
		Creation:  creation{created.UTC().Format(time.RFC3339), []string{"Tool: port_exporter-sbom"}},
		Packages:  []component{program, newComponent("stdlib", strings.TrimPrefix(info.GoVersion, "go"))},
	}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		doc.Packages = append(doc.Packages, newComponent(module.Path, module.Version))
	}
	doc.Relationships = []relationship{{doc.ID, "DESCRIBES", program.ID}}
	for _, part := range doc.Packages[1:] {
		doc.Relationships = append(doc.Relationships, relationship{program.ID, "DEPENDS_ON", part.ID})
	}
	return doc
}

// An id has letters, digits, dots and hyphens.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func newComponent(path, version string) component {
	return component{
		ID: "SPDXRef-" + notInID.ReplaceAllString(path, "-"), Name: path, Version: version,
		Location: unknown, Declared: unknown, Concluded: unknown, Copyright: unknown,
		// A package URL (purl): + is escaped there.
		References: []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")}},
	}
}
