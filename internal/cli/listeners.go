package cli

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// The values of --output.
const (
	outputTable  = "table"
	outputJSON   = "json"
	outputCSV    = "csv"
	outputSARIF  = "sarif"
	outputJUnit  = "junit"
	outputReport = "report"
)

// outputs returns every value of --output.
func outputs() []string {
	return []string{outputTable, outputJSON, outputCSV, outputSARIF, outputJUnit, outputReport}
}

// row is one listener in the hands of one owner, as it is written. Pointers are
// nil for what is not known or does not apply.
type row struct {
	Netns            string        `json:"netns"`                // empty for our own
	Runs             *namespaceRow `json:"netns_info,omitempty"` // nil for our own
	Protocol         string        `json:"protocol"`
	Address          string        `json:"address"`
	Port             uint32        `json:"port"`
	Interface        string        `json:"interface"`
	Scope            string        `json:"scope"`
	DualStack        bool          `json:"dual_stack"`
	Ephemeral        bool          `json:"ephemeral"`
	MayBeClient      bool          `json:"may_be_client"`
	Absent           bool          `json:"address_absent"`
	Path             string        `json:"path,omitempty"`   // of a unix listener; an abstract one with @ in front
	Type             string        `json:"type,omitempty"`   // of a packet socket; path or abstract of a unix listener
	Filter           string        `json:"filter,omitempty"` // likewise
	CID              string        `json:"cid,omitempty"`    // of a vsock listener: any, or a number
	Sockets          int           `json:"sockets"`
	AcceptQueue      *uint64       `json:"accept_queue"`
	AcceptQueueLimit *uint64       `json:"accept_queue_limit"`
	AcceptQueueFull  *uint64       `json:"accept_queue_full_sockets"`
	Process          string        `json:"process"`
	Comm             string        `json:"comm"`
	PID              int32         `json:"pid"`
	User             string        `json:"user"`
	UID              string        `json:"uid"`
	Executable       string        `json:"executable"`
	Deleted          bool          `json:"executable_deleted"`
	Pending          bool          `json:"owner_pending"` // the owner may be known later
	Unit             string        `json:"unit"`
	Container        string        `json:"container"`
	Verdict          string        `json:"verdict,omitempty"`
	Rule             string        `json:"rule,omitempty"`
	Severity         string        `json:"severity,omitempty"`
	Comment          string        `json:"comment,omitempty"`
	Firewall         *firewallRow  `json:"firewall,omitempty"` // nil where there are no rules, or they are unknown
}

// ListenersOptions are the flags of the command listeners.
type ListenersOptions struct {
	Output     string
	Unexpected bool   // only what the policy does not expect
	Input      string // a table that was saved, instead of this host
}

// Listeners writes the listeners of the host, or of a saved table. With a policy
// each has a verdict. The error has status 1 when one is not expected or a required
// one is not there, and 3 when there is no such finding, but an owner that a rule
// asks for could not be read.
func Listeners(ctx context.Context, h *Command, o ListenersOptions) error {
	if err := h.Namespaces.check(o, h.judgesOthers()); err != nil {
		return failure(err)
	}
	if err := o.check(h.Config.HasPolicy); err != nil {
		return failure(err)
	}
	owners, err := h.listeners(ctx, o.Input)
	if err != nil {
		return failure(err)
	}
	if o.needsPolicy() != "" && !h.judgesOthers() {
		owners.foreign = nil
	}
	j := h.judge(owners)
	if o.Input == "" && h.Namespaces.own() {
		h.addFirewall(ctx, j)
	}
	if o.Unexpected {
		j.rows = slices.DeleteFunc(j.rows, func(r row) bool { return !r.isFinding() })
	}
	if !o.Unexpected || len(j.rows) > 0 { // a run of cron that has nothing to say is silent
		if !o.Unexpected && o.Output == outputTable || h.asksFor(socket.Vsock) {
			h.sayUnknown(owners)
		}
		if !o.Unexpected && o.Output == outputTable && j.firewallUnknown != "" {
			fmt.Fprintln(h.Stderr, plain.Text(j.firewallUnknown))
		}
		h.sayMissing(owners)
	}
	if err := h.write(o, j); err != nil {
		return failure(err)
	}
	return j.verdict()
}

// check refuses what makes no sense without a policy.
func (o ListenersOptions) check(hasPolicy bool) error {
	flag := o.needsPolicy()
	if hasPolicy || flag == "" {
		return nil
	}
	return fmt.Errorf("%s: no policy is configured\nhint: write one with: port_exporter baseline > policy.yml, and use it with --config.file=policy.yml", flag)
}

// needsPolicy returns the flag that asks for verdicts, if there is one.
func (o ListenersOptions) needsPolicy() string {
	switch {
	case o.Unexpected:
		return "--unexpected"
	case slices.Contains([]string{outputSARIF, outputJUnit, outputReport}, o.Output):
		return "--output=" + o.Output
	default:
		return ""
	}
}

// listeners returns the listeners of a saved table, else those of the host.
func (h *Command) listeners(ctx context.Context, input string) (reading, error) {
	if input == "" {
		return h.read(ctx)
	}
	read, err := readTable(input, h.Stdin)
	// The table may have been saved without this policy.
	named, elsewhere := policy.Named(h.Config.Policy), policy.NamedElsewhere(h.Config.Policy)
	for i := range read.Owned {
		knowNamed(&read.Owned[i].Listener, named)
	}
	for i := range read.foreign {
		knowNamed(&read.foreign[i].Listener, elsewhere)
	}
	return read, err
}

// knowNamed notes that a listener whose port a rule names is no client.
func knowNamed(l *socket.Listener, named func(*socket.Socket) bool) {
	at := socket.Socket{Protocol: l.Protocol, Local: netip.AddrPortFrom(l.Address, l.Port)}
	l.MayBeClient = l.MayBeClient && !named(&at)
}

func (h *Command) write(o ListenersOptions, j *judged) error {
	subject := subjectOf(o.Input)
	switch o.Output {
	case outputJSON:
		return writeJSON(h.Stdout, j)
	case outputCSV:
		return writeCSV(h.Stdout, j)
	case outputSARIF:
		return h.writeSARIF(h.Stdout, subject, j)
	case outputJUnit:
		return h.writeJUnit(h.Stdout, subject, j)
	case outputReport:
		return h.writeReport(h.Stdout, subject, j)
	default:
		if o.Unexpected && len(j.rows) == 0 {
			return nil
		}
		return writeTable(h.Stdout, j, o.Unexpected)
	}
}

// subjectOf returns what the listeners are those of.
func subjectOf(input string) string {
	if input != "" && input != "-" {
		return strings.TrimSuffix(filepath.Base(input), ".json")
	}
	name, err := os.Hostname()
	if input == "-" || err != nil {
		return "host"
	}
	return name
}

func newRow(o socket.Owned) row {
	r := row{
		Netns:       o.Netns,
		Protocol:    o.Protocol.String(),
		Port:        uint32(o.Port),
		Interface:   o.Interface,
		Scope:       o.Scope.String(),
		DualStack:   o.DualStack,
		Ephemeral:   o.Ephemeral,
		MayBeClient: o.MayBeClient,
		Absent:      o.Absent,
		Sockets:     o.Sockets,
		Process:     o.Owner.Process,
		Comm:        o.Owner.Comm,
		PID:         o.Owner.PID,
		User:        o.Owner.User,
		UID:         o.Owner.UserID,
		Executable:  o.Owner.Executable,
		Deleted:     o.Owner.Deleted,
		Pending:     o.Owner.Pending,
		Unit:        o.Owner.Unit,
		Container:   o.Owner.Container,
	}
	if o.Address.IsValid() {
		r.Address = o.Address.String()
	}
	if o.Protocol == socket.Packet {
		r.Type, r.Filter = o.PacketType.String(), o.Filter.String()
	}
	if o.Protocol == socket.Vsock {
		r.CID, r.Port = o.Vsock.Context(), o.Vsock.Port
	}
	if o.Protocol == socket.Unix {
		r.Path, r.Type = o.Unix.Path, o.Unix.Kind()
	}
	r.addQueue(&o)
	return r
}

// addQueue adds the accept queue of a listener that has one.
func (r *row) addQueue(o *socket.Owned) {
	if o.Protocol != socket.TCP && o.Protocol != socket.Unix {
		return
	}
	if o.Known.Has(socket.KnowsQueues) {
		r.AcceptQueue = &o.AcceptQueue
	}
	if o.Known.Has(socket.KnowsAcceptQueueLimit) {
		r.AcceptQueueLimit = &o.AcceptQueueLimit
	}
	if o.Known.Has(socket.KnowsQueues | socket.KnowsAcceptQueueLimit) {
		r.AcceptQueueFull = new(uint64(o.Full))
	}
}

// valid returns the row in UTF-8. Two that differ in bytes that are none stay two.
func (r row) valid() *row {
	r.Runs = r.Runs.valid()
	for _, text := range []*string{&r.Netns, &r.Path, &r.Interface, &r.Process, &r.Comm, &r.User, &r.Executable, &r.Unit, &r.Container, &r.Rule, &r.Comment} {
		*text = plain.Valid(*text)
	}
	return &r
}

func writeJSON(w io.Writer, j *judged) error {
	saved := savedTable{Listeners: make([]row, len(j.rows)), Partial: names(j.read.partial), Unknown: names(j.read.unknown), AllNamespaces: j.read.wholeElsewhere(), UnreadNamespaces: j.read.unreadNamespaces, Published: j.published}
	for i := range j.rows {
		saved.Listeners[i] = *j.rows[i].valid()
	}
	for i := range saved.Published {
		saved.Published[i] = saved.Published[i].valid()
	}
	text, err := json.MarshalIndent(saved, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(plain.JSON(text), '\n'))
	return err
}

// names returns the names of protocols; not nil.
func names(protocols []socket.Protocol) []string {
	all := make([]string, len(protocols))
	for i, p := range protocols {
		all[i] = p.String()
	}
	return all
}

// writeTable writes for a terminal: names that hold what a terminal would act
// upon are quoted.
func writeTable(w io.Writer, j *judged, unexpected bool) error {
	filtered := slices.ContainsFunc(j.rows, func(r row) bool { return r.Firewall != nil })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := []string{"PROTO", "ADDRESS", "PORT", "SCOPE", "QUEUE", "PROCESS", "PID", "USER", "UNIT", "CONTAINER"}
	foreign := slices.ContainsFunc(j.rows, func(r row) bool { return r.Netns != "" })
	if foreign {
		header = append(header, "NETNS", "NAME")
	}
	if filtered {
		header = append(header, "FIREWALL")
	}
	if j.hasPolicy {
		header = append(header, "VERDICT")
	}
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, r := range j.rows {
		cells := []string{
			r.Protocol, r.place(), r.service(), r.reach(), r.queue(),
			r.program(), number(r.PID), plain.Name(r.User), plain.Name(r.Unit), plain.Name(r.Container),
		}
		if foreign {
			cells = append(cells, plain.Name(r.Netns), r.Runs.cell())
		}
		if filtered {
			cells = append(cells, r.Firewall.cell())
		}
		if j.hasPolicy {
			cells = append(cells, plain.Name(r.reason()))
		}
		writeCells(t, cells)
	}
	if !unexpected { // no policy covers published ports
		for i := range j.published {
			p := &j.published[i]
			cells := make([]string, len(header))
			copy(cells, p.cells())
			if foreign {
				cells[10] = plain.Name(p.ToNetns)
			}
			writeCells(t, cells)
		}
	}
	return t.Flush()
}

func writeCells(w io.Writer, cells []string) {
	for i, cell := range cells {
		if cell == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

func (r *row) place() string {
	if r.Protocol == socket.Unix.String() {
		return plain.Name(r.Path)
	}
	place := cmp.Or(r.Address, "*")
	if r.CID != "" {
		place = "cid " + r.CID
	}
	return onInterface(place, r.Interface)
}

// onInterface returns an address and the interface that it is limited to, if any.
func onInterface(address, name string) string {
	if name == "" {
		return address
	}
	return address + "%" + plain.Name(name)
}

// service returns the port, or what takes its place: the IP protocol of a raw
// socket, the EtherType of a packet socket and whether that has a filter.
func (r *row) service() string {
	switch r.Protocol {
	case socket.Unix.String():
		return ""
	case socket.Raw.String():
		return socket.IPProtocolName(uint16(r.Port))
	case socket.Packet.String():
		text := fmt.Sprintf("0x%04x", r.Port)
		if r.Filter == socket.HasFilter.String() {
			text += " filter"
		}
		return text
	default:
		return strconv.FormatUint(uint64(r.Port), 10)
	}
}

func (r *row) reach() string {
	reach := r.Scope
	if r.DualStack {
		reach += " +IPv4"
	}
	if r.Absent {
		reach += " absent"
	}
	if r.MayBeClient {
		reach += " client?"
	}
	return reach
}

func (r *row) queue() string {
	switch {
	case r.AcceptQueue == nil:
		return ""
	case r.AcceptQueueLimit == nil:
		return strconv.FormatUint(*r.AcceptQueue, 10)
	default:
		queue := fmt.Sprintf("%d/%d", *r.AcceptQueue, *r.AcceptQueueLimit)
		if r.AcceptQueueFull != nil && *r.AcceptQueueFull > 0 {
			queue += fmt.Sprintf(" %d full", *r.AcceptQueueFull)
		}
		return queue
	}
}

// program is the process and, where that says more, what it calls itself.
func (r *row) program() string {
	name := plain.Name(r.Process)
	if strings.Contains(r.Process, " (deleted)") || strings.Contains(r.Process, " [") {
		name = strconv.Quote(r.Process) // not ours, below
	}
	if !strings.HasPrefix(r.Process, r.Comm) {
		name += " [" + plain.Name(r.Comm) + "]"
	}
	if r.Deleted {
		name += " (deleted)"
	}
	return name
}

func (r *row) reason() string {
	if r.Rule == "" {
		return r.Verdict
	}
	return r.Verdict + ": " + r.Rule
}

// endpoint is the protocol and where it listens.
func (r *row) endpoint() string {
	where := r.Protocol + " " + r.place()
	if service := r.service(); service != "" {
		where += " port " + service
	}
	return where
}

// title names the listener and its owner in short.
func (r *row) title() string {
	words := []string{r.endpoint()}
	for _, part := range []string{r.Netns, r.Process, r.User, r.Unit, r.Container} {
		if part != "" {
			words = append(words, plain.Name(part))
		}
	}
	return strings.Join(words, " ")
}

// sentence says what is wrong with the listener.
func (r *row) sentence() string {
	who := "an unknown process"
	if r.Process != "" {
		who = r.program()
	}
	parts := []string{fmt.Sprintf("%s listens on %s (scope %s)", who, r.endpoint(), r.Scope)}
	for _, part := range []struct{ name, value string }{{"network namespace", r.Netns}, {"user", r.User}, {"unit", r.Unit}, {"container", r.Container}} {
		if part.value != "" {
			parts = append(parts, part.name+" "+plain.Name(part.value))
		}
	}
	text := strings.Join(parts, ", ")
	switch r.Verdict {
	case policy.Forbidden.String():
		text += ": rule " + plain.Name(r.Rule) + " forbids it"
	case policy.Unverified.String():
		text += ": whether rule " + plain.Name(r.Rule) + " matches depends on " + r.hidden() + " that could not be read"
	case policy.Unexpected.String():
		text += ": no rule of the policy expects it"
	}
	return text
}

// hidden is what a verdict may depend on.
func (r *row) hidden() string {
	if r.Filter == socket.FilterUnknown.String() {
		return "an owner or a filter"
	}
	return "an owner"
}

func number(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func writeCSV(w io.Writer, j *judged) error {
	c := csv.NewWriter(w)
	optional := func(n *uint64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatUint(*n, 10)
	}
	records := [][]string{{"netns", "protocol", "address", "port", "interface", "scope", "dual_stack", "ephemeral", "may_be_client", "address_absent", "sockets",
		"accept_queue", "accept_queue_limit", "accept_queue_full_sockets", "process", "comm", "pid", "user", "uid", "executable", "executable_deleted", "unit", "container", "verdict", "rule", "comment", "severity", "type", "filter", "cid", "path", "netns_container", "netns_pod", "netns_namespace", "firewall", "published_to"}}
	for _, r := range j.rows {
		runs := cmp.Or(r.Runs, &namespaceRow{})
		records = append(records, []string{plain.Cell(r.Netns), r.Protocol, r.Address, strconv.FormatUint(uint64(r.Port), 10), plain.Cell(r.Interface), r.Scope,
			strconv.FormatBool(r.DualStack), strconv.FormatBool(r.Ephemeral), strconv.FormatBool(r.MayBeClient), strconv.FormatBool(r.Absent), strconv.Itoa(r.Sockets),
			optional(r.AcceptQueue), optional(r.AcceptQueueLimit), optional(r.AcceptQueueFull), plain.Cell(r.Process), plain.Cell(r.Comm), number(r.PID), plain.Cell(r.User), plain.Cell(r.UID), plain.Cell(r.Executable),
			strconv.FormatBool(r.Deleted), plain.Cell(r.Unit), plain.Cell(r.Container), r.Verdict, plain.Cell(r.Rule), plain.Cell(r.Comment), r.Severity, r.Type, r.Filter, r.CID, plain.Cell(r.Path), plain.Cell(runs.Container), plain.Cell(runs.Pod), plain.Cell(runs.Namespace), plain.Cell(r.Firewall.cell()), ""})
	}
	for _, p := range j.published {
		record := make([]string, len(records[0]))
		copy(record, []string{"", p.Protocol, p.Address, p.Port, plain.Cell(p.Interface), "published"})
		record[len(record)-1] = plain.Cell(p.to())
		records = append(records, record)
	}
	return c.WriteAll(records)
}
