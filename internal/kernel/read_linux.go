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

	"github.com/prometheus/procfs"
)

// Read reads the files below procfs, of the network namespace of the process.
// A file that is not there leaves its figures nil: namespaces other than the
// first have no host-wide limits, and conntrack may not be loaded. Beside stats the
// error is a [FileError] for each file that cannot be read or understood: its
// figures are nil as well.
func Read(proc string) (*Stats, error) {
	s := &Stats{}
	r := reader{proc: proc}
	r.number("sys/net/core/somaxconn", &s.SoMaxConn)
	r.number("sys/net/ipv4/tcp_max_syn_backlog", &s.MaxSynBacklog)
	r.number("sys/net/ipv4/tcp_max_tw_buckets", &s.TimeWaitLimit)
	r.number("sys/net/ipv4/tcp_max_orphans", &s.OrphanLimit)
	r.number("sys/net/netfilter/nf_conntrack_count", &s.Conntrack)
	r.number("sys/net/netfilter/nf_conntrack_max", &s.ConntrackLimit)
	r.numbers("sys/net/ipv4/tcp_mem", new(*float64), &s.MemoryPressure, &s.MemoryLimit)
	if s.ConntrackLimit != nil && *s.ConntrackLimit == 0 {
		s.ConntrackLimit = nil // no limit (nf_conntrack_alloc in net/netfilter/nf_conntrack_core.c)
	}
	var timestamps *float64
	r.number("sys/net/ipv4/tcp_tw_reuse", &s.TimeWaitReuse)
	r.number("sys/net/ipv4/tcp_timestamps", &timestamps)
	if s.TimeWaitReuse != nil && timestamps != nil && *timestamps == 0 {
		*s.TimeWaitReuse = 0
	}
	inBytes(s.MemoryPressure)
	inBytes(s.MemoryLimit)

	files, err := procfs.NewFS(proc)
	if err != nil {
		return nil, err
	}
	r.note("net/sockstat", s.readSockstat(files))
	self, err := files.Self()
	if err != nil {
		r.note("self", err)
		return s, errors.Join(r.faults...)
	}
	r.note("self/net/netstat", s.readNetstat(proc, self))
	r.note("self/net/snmp", s.readSnmp(self))
	r.note("self/net/snmp6", s.readSnmp6(self))
	return s, errors.Join(r.faults...)
}

// reader reads files, and notes those that it cannot.
type reader struct {
	proc   string
	faults []error
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
	b, err := os.ReadFile(filepath.Join(r.proc, name))
	if err != nil {
		r.note(name, err)
		return
	}
	words := strings.Fields(string(b))
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

// inBytes turns a number of pages, if there is one, into bytes.
func inBytes(pages *float64) {
	if pages != nil {
		*pages *= float64(os.Getpagesize())
	}
}

func (s *Stats) readSockstat(files procfs.FS) error {
	stat, err := files.NetSockstat()
	if err != nil {
		return err
	}
	for _, p := range stat.Protocols {
		if p.Protocol == "TCP" {
			s.TimeWait, s.Orphans, s.Memory = number(p.TW), number(p.Orphan), number(p.Mem)
			inBytes(s.Memory)
		}
	}
	return nil
}

func number(n *int) *float64 {
	if n == nil {
		return nil
	}
	return new(float64(*n))
}

// readNetstat reads pairs of lines, one of names and one of values.
func (s *Stats) readNetstat(proc string, self procfs.Proc) error {
	b, err := os.ReadFile(filepath.Join(proc, "self/net/netstat"))
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) == 1 {
		return nil // gVisor has names without values
	}
	stat, err := self.Netstat()
	if err != nil {
		return err
	}
	s.Netstat = Netstat{
		ListenOverflows:   stat.ListenOverflows,
		ListenDrops:       stat.ListenDrops,
		TimeWaitOverflow:  stat.TCPTimeWaitOverflow,
		SynRetransmits:    stat.TCPSynRetrans,
		SynCookiesSent:    stat.SyncookiesSent,
		SynQueueFullDrops: stat.TCPReqQFullDrop,
	}
	s.Netstat.AbortOnMemory, err = counterIn(lines, "TCPAbortOnMemory")
	return err
}

// counterIn finds the one counter that procfs (0.22 and 0.23) declares and never
// fills.
func counterIn(lines []string, name string) (*float64, error) {
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		at := slices.Index(names, name)
		if at < 0 || at >= len(values) {
			continue
		}
		n, err := strconv.ParseFloat(values[at], 64)
		if err != nil {
			return nil, err
		}
		return &n, nil
	}
	return nil, nil
}

func (s *Stats) readSnmp(self procfs.Proc) error {
	stat, err := self.Snmp()
	if err != nil {
		return err
	}
	s.Snmp = Snmp{
		AttemptFails: stat.AttemptFails,
		EstabResets:  stat.EstabResets,
		RetransSegs:  stat.RetransSegs,
		ResetsSent:   stat.OutRsts,
	}
	s.UDP = UDP{NoPorts: stat.Udp.NoPorts, ReceiveFull: stat.Udp.RcvbufErrors, SendFull: stat.Udp.SndbufErrors}
	return nil
}

func (s *Stats) readSnmp6(self procfs.Proc) error {
	stat, err := self.Snmp6()
	if err != nil {
		return err
	}
	s.UDP6 = UDP{NoPorts: stat.Udp6.NoPorts, ReceiveFull: stat.Udp6.RcvbufErrors, SendFull: stat.Udp6.SndbufErrors}
	return nil
}
