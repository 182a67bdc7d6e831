package cli

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// The values of --output.
const (
	Table = "table"
	JSON  = "json"
	CSV   = "csv"
)

// Outputs returns every value of --output.
func Outputs() []string { return []string{Table, JSON, CSV} }

// row is one listener in the hands of one owner, as it is written. Pointers are
// nil for what is not known or does not apply.
type row struct {
	Netns            string  `json:"netns"`
	Protocol         string  `json:"protocol"`
	Address          string  `json:"address"`
	Port             uint16  `json:"port"`
	Interface        string  `json:"interface"`
	Scope            string  `json:"scope"`
	DualStack        bool    `json:"dual_stack"`
	Ephemeral        bool    `json:"ephemeral"`
	Sockets          int     `json:"sockets"`
	AcceptQueue      *uint64 `json:"accept_queue"`
	AcceptQueueLimit *uint64 `json:"accept_queue_limit"`
	Process          string  `json:"process"`
	PID              int32   `json:"pid"`
	User             string  `json:"user"`
	Executable       string  `json:"executable"`
	Deleted          bool    `json:"executable_deleted"`
	Unit             string  `json:"unit"`
	Container        string  `json:"container"`
	Verdict          string  `json:"verdict,omitempty"`
	Rule             string  `json:"rule,omitempty"`
	Comment          string  `json:"comment,omitempty"`
}

// The verdicts.
const (
	expected   = "expected"
	unexpected = "unexpected"
)

// Listeners writes the listeners of the host. With a policy each has a verdict,
// and the error has status 1 when one is unexpected or a required one is not
// there.
func Listeners(ctx context.Context, h *Host, output string, onlyUnexpected bool) error {
	if onlyUnexpected && !h.Config.HasPolicy {
		return Failure(fmt.Errorf("--unexpected: no policy is configured\nhint: write one with: port_exporter baseline > policy.yml, and give it with --config.file=policy.yml"))
	}
	owned, err := h.read(ctx)
	if err != nil {
		return Failure(err)
	}
	findings := policy.Evaluate(h.Config.Policy, owned)
	var rows []row
	surprises := 0
	for i, o := range owned {
		r := newRow(o)
		if h.Config.HasPolicy {
			r.judge(findings.Verdicts[i], h.Config.Policy)
		}
		if r.Verdict == unexpected {
			surprises++
		}
		if !onlyUnexpected || r.Verdict == unexpected {
			rows = append(rows, r)
		}
	}
	if err := write(h.Stdout, output, rows, h.Config.HasPolicy); err != nil {
		return Failure(err)
	}
	return verdict(surprises, findings, h.Config.Policy)
}

// verdict returns the error of what the policy does not allow.
func verdict(surprises int, findings policy.Findings, rules []policy.Rule) error {
	var faults []string
	if surprises > 0 {
		faults = append(faults, fmt.Sprintf("%d unexpected", surprises))
	}
	for _, i := range findings.Missing {
		fault := "missing: " + rules[i].Name
		if rules[i].Comment != "" {
			fault += " (" + rules[i].Comment + ")"
		}
		faults = append(faults, fault)
	}
	if len(faults) == 0 {
		return nil
	}
	return &ExitError{Code: statusFinding, Message: strings.Join(faults, "\n")}
}

func newRow(o socket.Owned) row {
	r := row{
		Netns:      o.Netns,
		Protocol:   o.Protocol.String(),
		Address:    o.Address.String(),
		Port:       o.Port,
		Interface:  o.Interface,
		Scope:      o.Scope.String(),
		DualStack:  o.DualStack,
		Ephemeral:  o.Ephemeral,
		Sockets:    o.Sockets,
		Process:    o.Owner.Process,
		PID:        o.Owner.PID,
		User:       o.Owner.User,
		Executable: o.Owner.Executable,
		Deleted:    o.Owner.Deleted,
		Unit:       o.Owner.Unit,
		Container:  o.Owner.Container,
	}
	if o.Protocol == socket.TCP && o.Known.Has(socket.KnowsQueues) {
		r.AcceptQueue = &o.AcceptQueue
	}
	if o.Protocol == socket.TCP && o.Known.Has(socket.KnowsAcceptQueueLimit) {
		r.AcceptQueueLimit = &o.AcceptQueueLimit
	}
	return r
}

func (r *row) judge(v policy.Verdict, rules []policy.Rule) {
	if !v.Expected() {
		r.Verdict = unexpected
		return
	}
	r.Verdict, r.Rule, r.Comment = expected, rules[v].Name, rules[v].Comment
}

func write(w io.Writer, output string, rows []row, judged bool) error {
	switch output {
	case JSON:
		if rows == nil {
			rows = []row{}
		}
		text, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		_, err = w.Write(append(escapeControls(text), '\n'))
		return err
	case CSV:
		return writeCSV(w, rows)
	default:
		return writeTable(w, rows, judged)
	}
}

// writeTable writes for a terminal: names that hold what a terminal would act
// upon are quoted.
func writeTable(w io.Writer, rows []row, judged bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := []string{"PROTO", "ADDRESS", "PORT", "SCOPE", "QUEUE", "PROCESS", "PID", "USER", "UNIT", "CONTAINER"}
	if judged {
		header = append(header, "VERDICT")
	}
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, r := range rows {
		cells := []string{
			r.Protocol, r.place(), strconv.Itoa(int(r.Port)), r.reach(), r.queue(),
			printable(r.program()), number(r.PID), printable(r.User), printable(r.Unit), printable(r.Container),
		}
		if judged {
			cells = append(cells, printable(r.reason()))
		}
		for i, cell := range cells {
			if cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

func (r *row) place() string {
	if r.Interface != "" {
		return r.Address + "%" + printable(r.Interface)
	}
	return r.Address
}

func (r *row) reach() string {
	if r.DualStack {
		return r.Scope + " +IPv4"
	}
	return r.Scope
}

func (r *row) queue() string {
	switch {
	case r.AcceptQueue == nil:
		return ""
	case r.AcceptQueueLimit == nil:
		return strconv.FormatUint(*r.AcceptQueue, 10)
	default:
		return fmt.Sprintf("%d/%d", *r.AcceptQueue, *r.AcceptQueueLimit)
	}
}

func (r *row) program() string {
	if r.Deleted {
		return r.Process + " (deleted)"
	}
	return r.Process
}

func (r *row) reason() string {
	if r.Rule == "" {
		return r.Verdict
	}
	return r.Verdict + ": " + r.Rule
}

func number(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

// printable returns the text, quoted if it holds control characters or is not
// UTF-8.
func printable(s string) string {
	for _, c := range s {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return strconv.Quote(s)
		}
	}
	return s
}

// escapeControls escapes the control characters that JSON allows in strings and
// terminals act upon: DEL and C1.
func escapeControls(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		if r >= 0x7f && r <= 0x9f {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

func writeCSV(w io.Writer, rows []row) error {
	c := csv.NewWriter(w)
	optional := func(n *uint64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatUint(*n, 10)
	}
	records := [][]string{{"netns", "protocol", "address", "port", "interface", "scope", "dual_stack", "ephemeral", "sockets",
		"accept_queue", "accept_queue_limit", "process", "pid", "user", "executable", "executable_deleted", "unit", "container", "verdict", "rule", "comment"}}
	for _, r := range rows {
		records = append(records, []string{r.Netns, r.Protocol, r.Address, strconv.Itoa(int(r.Port)), r.Interface, r.Scope,
			strconv.FormatBool(r.DualStack), strconv.FormatBool(r.Ephemeral), strconv.Itoa(r.Sockets),
			optional(r.AcceptQueue), optional(r.AcceptQueueLimit), printable(r.Process), number(r.PID), printable(r.User), printable(r.Executable),
			strconv.FormatBool(r.Deleted), printable(r.Unit), printable(r.Container), r.Verdict, printable(r.Rule), printable(r.Comment)})
	}
	return c.WriteAll(records)
}
