package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/port-exporter/port_exporter/internal/bpfwalk"
	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/procnet"
	"github.com/port-exporter/port_exporter/internal/psnet"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// defaultEphemeralPorts is what Linux starts with (inet_init_net in
// net/ipv4/af_inet.c).
var defaultEphemeralPorts = socket.PortRange{First: 32768, Last: 60999}

func open(ctx context.Context, source, procfs string) (*System, error) {
	s := &System{
		Name:           source,
		AddressKinds:   addressKinds,
		EphemeralPorts: func() (socket.EphemeralPorts, error) { return ephemeralPorts(procfs) },
		Arguments:      owner.Arguments(procfs),
		Firewall:       firewall.NewReader(procfs).Read,
		ForeignFirewall: func(ctx context.Context) (*firewall.Ruleset, error) {
			return firewall.NewReader(procfs).Read(ctx)
		},
		KernelStats: func() (*kernel.Stats, error) { return kernel.Read(procfs) },
	}
	var err error
	switch source {
	case Auto:
		s.Name = SockDiag
		if s.Source, err = openSockDiag(ctx); errors.Is(err, errors.ErrUnsupported) || errors.Is(err, errBlind) {
			s.Name, s.Fallback = ProcFS, err
			s.Source, err = procnet.New(procfs)
		}
	case SockDiag:
		s.Source, err = sockdiag.New(ctx)
	case BPF:
		engine, why := bpfwalk.Open(ctx)
		if why != nil {
			return openWithoutBPF(ctx, procfs, why)
		}
		s.Source, s.bpf = engine.Source(), engine
	case ProcFS:
		s.Source, err = procnet.New(procfs)
	case GopsUtil:
		s.Source = psnet.New()
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	unported := newPortless(s.Name == SockDiag || s.Name == BPF, procfs)
	s.Portless, s.Unix = unported.read, unported.unix
	s.Protocols = socket.Protocols()
	if s.Name == GopsUtil {
		s.Protocols = psnet.Protocols()
	}
	return s, nil
}

// openWithoutBPF returns what auto is, and says why it is not bpf: an upgrade of the kernel
// must not leave a host without metrics.
func openWithoutBPF(ctx context.Context, procfs string, why error) (*System, error) {
	s, err := open(ctx, Auto, procfs)
	if err != nil {
		return nil, err
	}
	s.Fallback = errors.Join(why, s.Fallback)
	return s, nil
}

// openSockDiag returns sock_diag if it sees this process.
func openSockDiag(ctx context.Context) (*sockdiag.Source, error) {
	source, err := sockdiag.New(ctx)
	if err != nil {
		return nil, err
	}
	return source, seesItself(ctx, source)
}

// ephemeralPorts reads net.ipv4.ip_local_port_range and ip_local_reserved_ports
// of this network namespace; they hold for IPv6 too (ip(7)). A kernel without
// the second reserves none. Beside an error it returns what it could read.
func ephemeralPorts(procfs string) (socket.EphemeralPorts, error) {
	const rangeFile, reservedFile = "sys/net/ipv4/ip_local_port_range", "sys/net/ipv4/ip_local_reserved_ports"
	ports := socket.EphemeralPorts{PortRange: defaultEphemeralPorts}
	b, err := kernel.AppendFile(nil, filepath.Join(procfs, rangeFile))
	if err != nil {
		return ports, fileError(rangeFile, err)
	}
	var r socket.PortRange
	if _, err := fmt.Sscan(string(b), &r.First, &r.Last); err != nil {
		return ports, fileError(rangeFile, err)
	}
	if r.First == 0 || r.First > r.Last { // the kernel has none such: ipv4_local_port_range, net/ipv4/sysctl_net_ipv4.c
		return ports, fileError(rangeFile, fmt.Errorf("%d to %d is not a range", r.First, r.Last))
	}
	ports.PortRange = r
	ports.Reserved, err = reservedPorts(filepath.Join(procfs, reservedFile))
	return ports, fileError(reservedFile, err)
}

// fileError returns what is wrong with a file below procfs, if anything is.
func fileError(file string, err error) error {
	if err == nil {
		return nil
	}
	return &kernel.FileError{File: file, Err: err}
}

// reservedPorts reads a file that answers one read only, with as much as fits
// (proc_do_large_bitmap in kernel/sysctl.c): a buffer that it fills may be too small.
func reservedPorts(path string) ([]socket.PortRange, error) {
	const usual, everyPort = 4 << 10, 6 << 16 // each with its comma
	list, err := kernel.AppendFile(make([]byte, 0, usual), path)
	if len(list) == usual {
		list, err = kernel.AppendFile(make([]byte, 0, everyPort), path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ranges, err := parsePorts(string(list))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ranges, nil
}

// parsePorts reads a list such as 8080,20000-20010. An empty one is none.
func parsePorts(list string) ([]socket.PortRange, error) {
	var ranges []socket.PortRange
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		if part == "" {
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return nil, err
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil {
			return nil, err
		}
		if from > to {
			return nil, fmt.Errorf("%s is not a range", part)
		}
		ranges = append(ranges, socket.PortRange{First: uint16(from), Last: uint16(to)})
	}
	return ranges, nil
}
