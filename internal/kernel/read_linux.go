package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Read reads the files below procfs, of the network namespace of the process.
// A file that is not there leaves its figures nil: namespaces other than the
// first have no host-wide limits, and conntrack may not be loaded. Beside stats the
// error is a [FileError] for each file that cannot be read or understood: its
// figures are nil as well.
func Read(proc string) (*Stats, error) {
	if _, err := os.Stat(proc); err != nil {
		return nil, err
	}
	s := &Stats{}
	r := reader{proc: proc}
	r.namespaced(s)
	r.number("sys/net/ipv4/tcp_max_orphans", &s.OrphanLimit)
	r.numbers("sys/net/ipv4/tcp_mem", new(*float64), &s.MemoryPressure, &s.MemoryLimit)
	inBytes(s.MemoryPressure)
	inBytes(s.MemoryLimit)

	r.sockstat("net/sockstat", map[string]**float64{"orphan": &s.Orphans, "tw": &s.TimeWait, "mem": &s.Memory})
	inBytes(s.Memory)
	r.perCPU("net/stat/nf_conntrack", map[string]**float64{"drop": &s.Tracking.Drops, "insert_failed": &s.Tracking.InsertFailures})
	r.perCPU("net/stat/arp_cache", map[string]**float64{"table_fulls": &s.Neighbours.TableFull})
	r.perCPU("net/stat/ndisc_cache", map[string]**float64{"table_fulls": &s.Neighbours6.TableFull})
	r.counters("self/net/netstat", s.netstat())
	var everyone, host *float64 // the two rate limits of ICMP
	r.counters("self/net/snmp", s.snmp(&everyone, &host))
	r.counters("self/net/snmp6", s.snmp6())
	s.ICMP.RateLimited = sum(everyone, host)
	return s, errors.Join(r.faults...)
}

// ReadLimits reads the limits that each network namespace has of its own, and what is used
// of them, of the namespace of the calling thread. Its error is as that of [Read].
func ReadLimits(proc string) (*Stats, error) {
	s := &Stats{}
	r := reader{proc: proc}
	r.namespaced(s)
	r.sockstat("thread-self/net/sockstat", map[string]**float64{"tw": &s.TimeWait})
	return s, errors.Join(r.faults...)
}

// namespaced reads the limits that each network namespace has of its own.
func (r *reader) namespaced(s *Stats) {
	r.number("sys/net/core/somaxconn", &s.SoMaxConn)
	r.number("sys/net/ipv4/tcp_max_syn_backlog", &s.MaxSynBacklog)
	r.number("sys/net/ipv4/tcp_max_tw_buckets", &s.TimeWaitLimit)
	r.number("sys/net/netfilter/nf_conntrack_count", &s.Conntrack)
	r.number("sys/net/netfilter/nf_conntrack_max", &s.ConntrackLimit)
	if s.ConntrackLimit != nil && *s.ConntrackLimit == 0 {
		s.ConntrackLimit = nil // no limit (nf_conntrack_alloc in net/netfilter/nf_conntrack_core.c)
	}
	var timestamps *float64
	r.number("sys/net/ipv4/tcp_tw_reuse", &s.TimeWaitReuse)
	r.number("sys/net/ipv4/tcp_timestamps", &timestamps)
	if s.TimeWaitReuse != nil && timestamps != nil && *timestamps == 0 {
		*s.TimeWaitReuse = 0
	}
}

// reader reads files, and notes those that it cannot.
type reader struct {
	proc   string
	buf    []byte // of the file that was read last
	faults []error
}

// read returns a file. One that cannot be read is noted.
func (r *reader) read(name string) (text string, ok bool) {
	var err error
	r.buf, err = AppendFile(r.buf[:0], filepath.Join(r.proc, name))
	r.note(name, err)
	return string(r.buf), err == nil
}

// note keeps the error of a file, unless it is that there is no such file.
func (r *reader) note(name string, err error) {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return
	}
	r.faults = append(r.faults, &FileError{name, err})
}

func (r *reader) number(name string, into **float64) { r.numbers(name, into) }

// numbers reads a file of as many whole numbers as there are to fill.
func (r *reader) numbers(name string, into ...**float64) {
	text, ok := r.read(name)
	if !ok {
		return
	}
	words := strings.Fields(text)
	if len(words) != len(into) {
		r.note(name, fmt.Errorf("%d numbers, want %d", len(words), len(into)))
		return
	}
	for i, word := range words {
		n, err := strconv.ParseInt(word, 10, 64) // the kernel takes -1 for some limits
		if err != nil {
			r.note(name, err)
			return
		}
		*into[i] = new(float64(n))
	}
}

// perCPU sums the wanted columns of a file that has a line of names and one of
// hexadecimal numbers for each CPU: neigh_stat_seq_show of net/core/neighbour.c,
// ct_cpu_seq_show of net/netfilter/nf_conntrack_standalone.c.
func (r *reader) perCPU(name string, want map[string]**float64) {
	text, ok := r.read(name)
	line, lines, _ := strings.Cut(text, "\n")
	if !ok || lines == "" {
		return
	}
	names := strings.Fields(line)
	sums := make([]float64, len(names))
	for line := range strings.Lines(lines) {
		if err := addHex(sums, strings.Fields(line)); err != nil {
			r.note(name, err)
			return
		}
	}
	for i, name := range names {
		if into := want[name]; into != nil {
			*into = &sums[i]
		}
	}
}

// addHex adds hexadecimal numbers to sums.
func addHex(sums []float64, words []string) error {
	if len(words) < len(sums) {
		return fmt.Errorf("a line of %d numbers, want %d", len(words), len(sums))
	}
	for i := range sums {
		n, err := strconv.ParseUint(words[i], 16, 64)
		if err != nil {
			return err
		}
		sums[i] += float64(n)
	}
	return nil
}

// inBytes turns a number of pages, if there is one, into bytes.
func inBytes(pages *float64) {
	if pages != nil {
		*pages *= float64(os.Getpagesize())
	}
}

// sockstat reads the wanted figures of the line TCP of a file sockstat, which has each
// behind its name (sockstat_seq_show in net/ipv4/proc.c).
func (r *reader) sockstat(name string, want map[string]**float64) {
	text, _ := r.read(name)
	for line := range strings.Lines(text) {
		figures, ok := strings.CutPrefix(line, "TCP:")
		if !ok {
			continue
		}
		words := strings.Fields(figures)
		if len(words) == 0 || len(words)%2 != 0 {
			r.note(name, fmt.Errorf("%d words behind TCP, want names with their values", len(words)))
			return
		}
		for pair := range slices.Chunk(words, 2) {
			if err := fill(want, "", pair[0], pair[1]); err != nil {
				r.note(name, err)
				return
			}
		}
	}
}

// counters reads the wanted counters of a file: net/netstat and net/snmp have pairs of
// lines, one of names and one of values, net/snmp6 a name and a value on each line.
// They are called as nstat(8) calls them. procfs does not fill all of these.
func (r *reader) counters(name string, want map[string]**float64) {
	text, ok := r.read(name)
	if !ok {
		return
	}
	names := ""
	for line := range strings.Lines(text) {
		group, rest, paired := strings.Cut(line, ": ")
		var err error
		switch {
		case !paired:
			err = fill(want, "", firstWord(line), strings.TrimPrefix(line, firstWord(line)))
		case names == "":
			names = rest
			continue
		default:
			err = fill(want, group, names, rest)
			names = ""
		}
		if err != nil {
			r.note(name, err)
			return
		}
	}
}

// fill takes the wanted ones of some names and their values.
func fill(want map[string]**float64, group, names, values string) error {
	words := strings.Fields(values)
	for i, name := range strings.Fields(names) {
		into, ok := want[group+name]
		switch {
		case i >= len(words):
			return fmt.Errorf("%s%s has no value", group, name)
		case !ok:
			continue
		}
		n, err := strconv.ParseFloat(words[i], 64)
		if err != nil {
			return err
		}
		*into = &n
	}
	return nil
}

func firstWord(line string) string {
	end := strings.IndexAny(line, " \t\n")
	return line[:max(end, 0)]
}

func (s *Stats) netstat() map[string]**float64 {
	n := &s.Netstat
	return map[string]**float64{
		"TcpExtListenOverflows": &n.ListenOverflows, "TcpExtListenDrops": &n.ListenDrops, "TcpExtTCPTimeWaitOverflow": &n.TimeWaitOverflow,
		"TcpExtTCPSynRetrans": &n.SynRetransmits, "TcpExtSyncookiesSent": &n.SynCookiesSent, "TcpExtTCPReqQFullDrop": &n.SynQueueFullDrops,
		"TcpExtTCPAbortOnMemory": &n.AbortOnMemory, "TcpExtTCPAbortOnData": &n.AbortOnData, "TcpExtTCPAbortOnClose": &n.AbortOnClose,
		"TcpExtTCPAbortOnTimeout": &n.AbortOnTimeout, "TcpExtTCPAbortOnLinger": &n.AbortOnLinger, "TcpExtTCPAbortFailed": &n.AbortFailed,
		"TcpExtSyncookiesRecv": &n.SynCookiesValid, "TcpExtSyncookiesFailed": &n.SynCookiesInvalid, "TcpExtTCPTimeouts": &n.Timeouts,
		"TcpExtTCPLossProbes": &n.LossProbes, "TcpExtTCPZeroWindowDrop": &n.ZeroWindowDrop, "TcpExtTCPBacklogDrop": &n.BacklogDrop,
		"TcpExtTCPRcvQDrop": &n.ReceiveQueueDrop, "TcpExtIPReversePathFilter": &n.ReversePathFilter,
	}
}

func (s *Stats) snmp(everyone, host **float64) map[string]**float64 {
	return map[string]**float64{
		"TcpAttemptFails": &s.Snmp.AttemptFails, "TcpEstabResets": &s.Snmp.EstabResets, "TcpRetransSegs": &s.Snmp.RetransSegs,
		"TcpOutRsts": &s.Snmp.ResetsSent, "TcpActiveOpens": &s.Snmp.ActiveOpens, "TcpPassiveOpens": &s.Snmp.PassiveOpens,
		"UdpNoPorts": &s.UDP.NoPorts, "UdpRcvbufErrors": &s.UDP.ReceiveFull, "UdpSndbufErrors": &s.UDP.SendFull,
		"IcmpOutRateLimitGlobal": everyone, "IcmpOutRateLimitHost": host,
	}
}

func (s *Stats) snmp6() map[string]**float64 {
	return map[string]**float64{
		"Udp6NoPorts": &s.UDP6.NoPorts, "Udp6RcvbufErrors": &s.UDP6.ReceiveFull, "Udp6SndbufErrors": &s.UDP6.SendFull,
		"Icmp6OutRateLimitHost": &s.ICMP6.RateLimited,
	}
}

// sum adds two figures; it is nil where one is unknown.
func sum(a, b *float64) *float64 {
	if a == nil || b == nil {
		return nil
	}
	return new(*a + *b)
}
