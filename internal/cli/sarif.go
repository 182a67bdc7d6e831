package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
)

// What follows has the shape of SARIF 2.1.0, the OASIS standard for findings of
// tools, as far as it is used: sections 3.13 (the log) to 3.27 (a result).

const (
	sarifVersion = "2.1.0"
	sarifSchema  = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	project      = "https://github.com/port-exporter/port_exporter"
)

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool        sarifTool         `json:"tool"`
	Automation  sarifAutomation   `json:"automationDetails"`
	Invocations []sarifInvocation `json:"invocations"`
	Results     []sarifResult     `json:"results"`
}

type sarifTool struct {
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	Version        string      `json:"version,omitempty"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID            string       `json:"id"`
	Name          string       `json:"name"`
	Short         sarifMessage `json:"shortDescription"`
	Help          sarifMessage `json:"help"`
	Configuration sarifDefault `json:"defaultConfiguration"`
}

type sarifDefault struct {
	Level string `json:"level"`
}

type sarifMessage struct {
	Text string `json:"text"`
}

type sarifAutomation struct {
	ID string `json:"id"`
}

type sarifInvocation struct {
	Successful    bool                `json:"executionSuccessful"`
	EndTime       string              `json:"endTimeUtc"`
	Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
}

type sarifNotification struct {
	Level   string       `json:"level"`
	Message sarifMessage `json:"message"`
}

type sarifResult struct {
	RuleID       string            `json:"ruleId"`
	RuleIndex    int               `json:"ruleIndex"`
	Level        string            `json:"level"`
	Message      sarifMessage      `json:"message"`
	Locations    []sarifLocation   `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
	Properties   *row              `json:"properties,omitempty"`
}

type sarifLocation struct {
	Physical sarifPhysical  `json:"physicalLocation"`
	Logical  []sarifLogical `json:"logicalLocations"`
}

type sarifPhysical struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   sarifRegion   `json:"region"`
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifRegion struct {
	StartLine int `json:"startLine"`
}

type sarifLogical struct {
	Name string `json:"name"`
	Full string `json:"fullyQualifiedName"`
	Kind string `json:"kind"`
}

// The rules of SARIF, by index.
const (
	sarifUnexpected = iota
	sarifForbidden
	sarifUnverified
	sarifMissing
)

func sarifRules() []sarifRule {
	rule := func(id, name, short, help, level string) sarifRule {
		return sarifRule{id, name, sarifMessage{short}, sarifMessage{help}, sarifDefault{level}}
	}
	return []sarifRule{
		rule("unexpected-listener", "UnexpectedListener", "No rule of the policy expects this listener.",
			"Stop it, or add a rule as port_exporter baseline --merge writes it.", "error"),
		rule("forbidden-listener", "ForbiddenListener", "A rule of the policy forbids this listener.",
			"Stop it, or put a narrower rule before the one that forbids it.", "error"),
		rule("unverified-listener", "UnverifiedListener", "A rule of the policy asks for the owner of this listener, which could not be read.",
			"List the listeners as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.", "warning"),
		rule("missing-listener", "MissingListener", "Nothing listens that a required rule of the policy expects.",
			"Start the service, or correct the rule.", "error"),
	}
}

func sarifLevel(severity string) string {
	switch severity {
	case policy.SeverityCritical.String():
		return "error"
	case policy.SeverityInfo.String():
		return "note"
	default:
		return "warning"
	}
}

// writeSARIF writes what the policy does not expect.
func (h *Command) writeSARIF(w io.Writer, subject string, j *judged) error {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{"port_exporter", h.Version, project, sarifRules()}},
		Automation:  sarifAutomation{"port_exporter/" + subject + "/"},
		Invocations: []sarifInvocation{h.invocation(j)},
		Results:     []sarifResult{},
	}
	for i := range j.rows {
		if r := &j.rows[i]; r.isFinding() {
			run.Results = append(run.Results, h.sarifListener(subject, r, j))
		}
	}
	for _, b := range j.required() {
		run.Results = append(run.Results, h.sarifRequired(subject, b))
	}
	text, err := json.MarshalIndent(sarifLog{sarifSchema, sarifVersion, []sarifRun{run}}, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(plain.JSON(text), '\n'))
	return err
}

// invocation says whether all was read that the policy is about, and what was not.
func (h *Command) invocation(j *judged) sarifInvocation {
	i := sarifInvocation{Successful: true, EndTime: h.now().UTC().Format(time.RFC3339)}
	for _, doubt := range j.doubts() {
		i.Successful = false
		i.Notifications = append(i.Notifications, sarifNotification{"error", sarifMessage{doubt + "."}})
	}
	return i
}

func (h *Command) sarifListener(subject string, r *row, j *judged) sarifResult {
	rule := sarifUnexpected
	switch r.Verdict {
	case policy.Forbidden.String():
		rule = sarifForbidden
	case policy.Unverified.String():
		rule = sarifUnverified
	}
	name := strings.TrimSuffix(fmt.Sprintf("%s/%s/%s", r.Protocol, r.place(), r.service()), "/") // a unix listener has no service
	result := h.sarifResult(subject, rule, name, r.sentence(), j.line(r.Rule, h))
	result.Level, result.Properties = sarifLevel(r.Severity), r.valid()
	result.Fingerprints = fingerprint(subject, r.Netns, name, r.Type, r.Process, r.User, r.Unit, r.Container)
	return result
}

func (h *Command) sarifRequired(subject string, b broken) sarifResult {
	result := h.sarifResult(subject, sarifMissing, b.rule.Name, plain.Line(b.sentence()), h.Config.RuleLine(b.rule.Name))
	result.Level = sarifLevel(b.rule.Severity.String())
	return result
}

func (h *Command) sarifResult(subject string, rule int, name, message string, line int) sarifResult {
	return sarifResult{
		RuleID: sarifRules()[rule].ID, RuleIndex: rule, Message: sarifMessage{message},
		Locations: []sarifLocation{{
			sarifPhysical{sarifArtifact{fileURI(h.ConfigFile)}, sarifRegion{max(line, 1)}},
			[]sarifLogical{{name, subject + "/" + name, "resource"}},
		}},
		Fingerprints: fingerprint(subject, name),
	}
}

// line returns where the rule of a verdict stands in the file of the policy.
func (j *judged) line(rule string, h *Command) int {
	if rule == "" {
		return 0
	}
	return h.Config.RuleLine(rule)
}

// fingerprint is the same for the same finding in a later run.
func fingerprint(parts ...string) map[string]string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return map[string]string{"portExporterListener/v1": hex.EncodeToString(sum[:])}
}

// fileURI returns the path of a file as a URI: relative, or with its scheme.
func fileURI(path string) string {
	path = filepath.ToSlash(cmp.Or(path, "port_exporter.yml"))
	u := url.URL{Path: path}
	if strings.HasPrefix(path, "/") {
		u.Scheme = "file"
	}
	return u.String()
}
