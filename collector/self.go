package collector

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// The families about the exporter itself.
var (
	collectorSuccess = gauge("port_scrape_collector_success",
		"Whether a collector succeeded (1 or 0).", "collector")
	collectorDuration = gauge("port_scrape_collector_duration_seconds",
		"Duration of a collector, in seconds.", "collector")
	sourceInfo = gauge("port_source_info",
		"Source of the socket table, and why it is not another; always 1.", "source", "reason")
	foldedSeries = gauge("port_folded_items",
		"Items that a metric aggregates or omits because of its limit.", "metric")
	interruptedReads = counter("port_source_interrupted_reads_total",
		"Socket table reads that were interrupted twice in a row.")
	unreadableFiles = gauge("port_unreadable_files",
		"File below /proc that could not be read or parsed; always 1.", "file")
	malformedRows = counter("port_source_malformed_rows_total",
		"Malformed rows of the socket table that were discarded.")
)

func selfFamilies() []*Family {
	return []*Family{collectorSuccess, collectorDuration, sourceInfo, foldedSeries, interruptedReads, malformedRows, unreadableFiles}
}

// processFamilies are those that internal/daemon adds. TestHelpOfTheProcess of the main
// package compares them with those that are served.
var processFamilies = []*Family{
	gauge("port_exporter_build_info", "Version, revision and Go version of the running build; always 1.",
		"version", "revision", "branch", "goversion", "goos", "goarch", "tags"),
	gauge("port_config_last_reload_successful", "Whether the last configuration load succeeded (1 or 0)."),
	gauge("port_config_last_reload_success_timestamp_seconds", "When the configuration in force was loaded, in seconds since the epoch."),
	gauge("port_web_config_last_reload_successful", "Whether the web configuration in force matches its files (1 or 0)."),
	gauge("port_web_config_last_reload_success_timestamp_seconds", "When the web configuration in force was read, in seconds since the epoch."),
	gauge("port_config_targets", "Probe targets in the configuration in force."),
	gauge("port_config_policy_rules", "Policy rules in the configuration in force; 0 without a policy."),
	counter("port_exporter_log_lines_dropped_total", "Log lines dropped because the log's reader is too slow or gone."),
	counter("port_exporter_probes_total", "Probes by prober and outcome, on request and scheduled.", "prober", "outcome"),
	gauge("port_exporter_probes_in_flight", "Probes in flight."),
}

func (e *Exporter) addSelf(out *Output) {
	out.add(sourceInfo, 1, e.options.SourceName, firstLine(e.options.SourceFallback))
	out.add(interruptedReads, float64(e.options.Memory.interrupted.Load()))
	out.add(malformedRows, float64(e.options.Memory.malformed.Load()))
}

// firstLine returns an error without its hint, and nothing for none.
func firstLine(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// How long a UDP socket on a port above 1023 must live to be a listener, and
// how many such sockets are remembered (about 100 bytes each).
const (
	longLivedAge   = 5 * time.Minute
	longLivedLimit = 32_768
)

// Memory is what an exporter remembers from scrape to scrape. It outlives the
// exporter, which a reload replaces.
type Memory struct {
	longLived *socket.LongLived
	clients   *socket.Clients
	history   *socket.History
	// Stable choices of the ports and destinations with their own series.
	rankings              rankings // of our own namespace
	open                  *socket.Ranking[uint16]
	owners                *socket.Ranking[owner.Group]
	ownerPorts            *socket.Ranking[groupPort]
	destinations, watched *socket.Ranking[netip.AddrPort]
	namespaces            namespaceMemory

	openPorts   atomic.Pointer[map[uint16]bool] // what open chose last
	interrupted atomic.Uint64
	malformed   atomic.Uint64
	running     atomic.Int64 // collectors, those left behind included
	files       sync.Map     // names of files that were logged as unreadable
	failures    failures
}

// NewMemory returns an empty memory that reads the time from now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{
		longLived:    socket.NewLongLived(longLivedAge, longLivedLimit, now),
		clients:      socket.NewClients(now),
		history:      socket.NewHistory(now),
		rankings:     newRankings(now),
		namespaces:   newNamespaceMemory(now),
		open:         socket.NewRanking[uint16](now),
		owners:       socket.NewRanking[owner.Group](now),
		ownerPorts:   socket.NewRanking[groupPort](now),
		destinations: socket.NewRanking[netip.AddrPort](now),
		watched:      socket.NewRanking[netip.AddrPort](now),
	}
}

// isNews reports whether a file is named for the first time.
func (m *Memory) isNews(file string) bool {
	_, known := m.files.LoadOrStore(file, true)
	return !known
}
