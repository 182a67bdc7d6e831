package main

import "strings"

// A board is one dashboard. A section is a row of it; its panels flow from left
// to right over a width of 24.
type board struct {
	title     string
	uid       string // never to change: links and bookmarks have it
	about     string
	variables []variable // behind the data source
	host      string     // what HOST stands for in queries: the matchers of the variables
	sections  []section
}

type section struct {
	title     string
	panels    []panel
	collapsed bool
}

type panel struct {
	title   string
	about   string // what the figure says and what to do about it
	kind    kind
	width   int
	tall    int      // if not 0; else as its kind is
	unit    string   // Grafana's name of the unit
	stack   bool     // time series only
	warn    float64  // turns red from here on, if not 0
	alarm   float64  // turns red below this, if not 0
	max     float64  // end of the axis, if not 0
	none    string   // what a stat says without data, if not empty
	value   string   // the column of the values, tables only; without a name it is left out
	columns []string // labels, in their order, tables only
	query   []query
}

type query struct {
	expr   string
	legend string
}

type kind int

const (
	timeSeries kind = iota
	stat
	table
)

func boards() []board {
	return []board{connectionsBoard(), listenersBoard(), limitsBoard(), probesBoard()}
}

// file is the name of the board's file: its title in lower case, with dashes.
func (b board) file() string {
	return strings.NewReplacer(" ", "-", "_", "-").Replace(strings.ToLower(b.title)) + ".json"
}

// onHosts is for boards whose figures are those of hosts.
func onHosts() (variables []variable, host string) {
	return []variable{
		labelVariable("job", "Job", ".+", `label_values(port_exporter_build_info, job)`),
		labelVariable("instance", "Instance", ".+", `label_values(port_exporter_build_info{job=~"$job"}, instance)`),
	}, `job=~"$job", instance=~"$instance"`
}

// listener has the labels that tell a listener from the others of all hosts.
const listener = "job, instance, netns, protocol, address, port, interface"

// perHost matches a figure of a network namespace with another one of it.
const perHost = "on (job, instance, netns) group_left ()"

// byService sums a metric of listeners and names their process. Those without a
// known process, or without series of their own, are there too, but not those
// that are 0: a host has many.
func byService(metric string) string {
	sum := `(sum by (` + listener + `) (` + metric + `) > 0)`
	return sum + ` * on (` + listener + `) group_left (process) topk by (` + listener + `) (1, port_listener_info{HOST})` +
		` or on (` + listener + `) ` + sum
}

// The legends. Prometheus has no way to leave out the instance when there is
// only one.
const (
	serviceLegend     = "{{instance}} {{process}} {{address}} port {{port}}"
	listenerLegend    = "{{instance}} {{protocol}} {{address}} port {{port}}"
	remoteLegend      = "{{instance}} to port {{remote_port}}"
	destinationLegend = "{{instance}} to {{remote_address}} port {{remote_port}}"
)
