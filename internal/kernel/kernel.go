// Package kernel reads the limits that the kernel sets to sockets, what is used
// of them, its own counters of what went wrong, and the names of devices.
package kernel

import "errors"

// Stats are limits, uses and counters. A value that this kernel does not report is nil.
//
// Those of the first group are of the network namespace, those of the second of
// the whole host. The files are described in
// Documentation/networking/ip-sysctl.rst, nf_conntrack-sysctl.rst and
// snmp_counter.rst of the kernel.
type Stats struct {
	SoMaxConn      *float64 // sys/net/core/somaxconn
	MaxSynBacklog  *float64 // sys/net/ipv4/tcp_max_syn_backlog
	TimeWaitLimit  *float64 // sys/net/ipv4/tcp_max_tw_buckets
	Conntrack      *float64 // sys/net/netfilter/nf_conntrack_count
	ConntrackLimit *float64 // sys/net/netfilter/nf_conntrack_max
	Netstat        Netstat
	Snmp           Snmp
	UDP, UDP6      UDP
	ICMP, ICMP6    ICMP
	Tracking       Tracking
	TimeWaitReuse  *float64 // sys/net/ipv4/tcp_tw_reuse; 0 without tcp_timestamps, which it needs
	TimeWait       *float64 // TCP tw of net/sockstat: TIME_WAIT, and FIN_WAIT2 of orphans

	// Neighbours and Neighbours6 are the ARP and the ND cache.
	Neighbours, Neighbours6 Neighbours

	Orphans        *float64 // TCP orphan of net/sockstat
	OrphanLimit    *float64 // sys/net/ipv4/tcp_max_orphans
	Memory         *float64 // TCP mem of net/sockstat, in bytes
	MemoryPressure *float64 // the second figure of sys/net/ipv4/tcp_mem, in bytes
	MemoryLimit    *float64 // the third one
}

// Netstat are counters of the TcpExt lines of net/netstat.
type Netstat struct {
	ListenOverflows   *float64
	ListenDrops       *float64
	TimeWaitOverflow  *float64
	SynRetransmits    *float64
	SynCookiesSent    *float64
	SynQueueFullDrops *float64 // TCPReqQFullDrop
	AbortOnMemory     *float64
	AbortOnData       *float64 // data arrived for a closed socket
	AbortOnClose      *float64 // closed with data unread
	AbortOnTimeout    *float64 // retransmissions or keep-alives used up
	AbortOnLinger     *float64 // closed with SO_LINGER, or FIN_WAIT2 timed out
	AbortFailed       *float64 // a reset that could not be sent
	SynCookiesValid   *float64 // SyncookiesRecv
	SynCookiesInvalid *float64 // SyncookiesFailed
	Timeouts          *float64 // TCPTimeouts
	LossProbes        *float64 // TCPLossProbes
	ZeroWindowDrop    *float64 // TCPZeroWindowDrop
	BacklogDrop       *float64 // TCPBacklogDrop
	ReceiveQueueDrop  *float64 // TCPRcvQDrop
	ReversePathFilter *float64 // IPReversePathFilter
}

// Snmp are counters of the Tcp lines of net/snmp.
type Snmp struct {
	ActiveOpens  *float64
	PassiveOpens *float64
	AttemptFails *float64
	EstabResets  *float64
	RetransSegs  *float64
	ResetsSent   *float64 // OutRsts
}

// UDP are counters of the Udp lines of net/snmp, and of the Udp6 lines of
// net/snmp6.
type UDP struct {
	NoPorts     *float64
	ReceiveFull *float64 // RcvbufErrors
	SendFull    *float64 // SndbufErrors
}

// ICMP are counters of the Icmp lines of net/snmp, and of the Icmp6 lines of
// net/snmp6.
type ICMP struct {
	RateLimited *float64 // errors that were not sent: OutRateLimitGlobal and OutRateLimitHost
}

// Tracking are counters of net/stat/nf_conntrack, over all CPUs.
type Tracking struct {
	Drops          *float64 // no memory, or the table is full
	InsertFailures *float64 // another packet of the same connection was first
}

// Neighbours are counters of net/stat/arp_cache and ndisc_cache, over all CPUs.
type Neighbours struct {
	TableFull *float64 // net.ipv4.neigh.default.gc_thresh3 was reached
}

// FileError says that a file below procfs could not be read or understood. The
// figures that it would have given are unknown; all others stand.
type FileError struct {
	File string // below procfs, as in net/sockstat
	Err  error
}

func (e *FileError) Error() string { return e.File + ": " + e.Err.Error() }

func (e *FileError) Unwrap() error { return e.Err }

// Files returns the file errors that an error is made of.
func Files(err error) []*FileError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var files []*FileError
		for _, e := range joined.Unwrap() {
			files = append(files, Files(e)...)
		}
		return files
	}
	if file, ok := errors.AsType[*FileError](err); ok {
		return []*FileError{file}
	}
	return nil
}
