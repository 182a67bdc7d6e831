//go:build linux && (amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64)

package bpfwalk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// capacity is how many records and namespaces the maps hold: CAPACITY in walk.bpf.c.
const capacity = 8192

// errTooMany is about the namespaces for which the map has no room.
var errTooMany = fmt.Errorf("more than %d network namespaces", capacity)

// Engine reads the sockets of all network namespaces. It holds a few descriptors of
// maps and programs, and nothing of any namespace. It is safe for concurrent use: one
// walk runs at a time.
type Engine struct {
	programs walkPrograms
	maps     walkMaps
	// What the programs write, in the memory that is shared with the kernel. Only the
	// walk that runs may look at it.
	records    []walkRecord
	namespaces []walkNamespace
	memory     [][]byte

	turn    chan struct{} // holds one element while a walk runs
	udplite uint64        // the address of the kernel's table; 0 if it has none
	moved   atomic.Uint64

	mu sync.Mutex
	// known are the namespaces that had connections at the last walk, which was at knownAt.
	known   map[uint64]bool
	knownAt time.Time
}

// Moved returns how often a part of a table was read again, because a socket left it
// while the walk stood on it.
func (e *Engine) Moved() uint64 { return e.moved.Load() }

// load loads the programs and maps the memory that they write to.
func load() (*Engine, error) {
	e := &Engine{turn: make(chan struct{}, 1)}
	objects := struct {
		*walkPrograms
		*walkMaps
	}{&e.programs, &e.maps}
	if err := loadWalkObjects(&objects, nil); err != nil {
		return nil, err
	}
	if err := e.mapMemory(); err != nil {
		e.Close()
		return nil, err
	}
	e.udplite = e.findUDPLite()
	return e, nil
}

func (e *Engine) mapMemory() error {
	records, err := e.mmap(e.maps.Records, unsafe.Sizeof(walkRecord{}))
	if err != nil {
		return err
	}
	namespaces, err := e.mmap(e.maps.Namespaces, unsafe.Sizeof(walkNamespace{}))
	if err != nil {
		return err
	}
	e.records = unsafe.Slice((*walkRecord)(unsafe.Pointer(unsafe.SliceData(records))), capacity)
	e.namespaces = unsafe.Slice((*walkNamespace)(unsafe.Pointer(unsafe.SliceData(namespaces))), capacity)
	return nil
}

func (e *Engine) mmap(m *ebpf.Map, size uintptr) ([]byte, error) {
	if m.MaxEntries() != capacity || uintptr(m.ValueSize()) != size {
		return nil, fmt.Errorf("%v: not %d values of %d bytes", m, capacity, size)
	}
	memory, err := unix.Mmap(m.FD(), 0, capacity*int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memory of %v: %w", m, err)
	}
	e.memory = append(e.memory, memory)
	return memory, nil
}

// Close frees the programs and maps. No read may follow.
func (e *Engine) Close() {
	for _, memory := range e.memory {
		_ = unix.Munmap(memory)
	}
	e.memory = nil
	_ = e.programs.Close()
	_ = e.maps.Close()
}

// lock waits for the turn of a walk.
func (e *Engine) lock(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) unlock() { <-e.turn }

// run calls a program. It may be called by the holder of the turn only.
func run(program *ebpf.Program, call *walkCall) error {
	_, err := program.Run(&ebpf.RunOptions{Context: call, ContextOut: call})
	return err
}

// findUDPLite returns the table of UDP-Lite, which a socket of that protocol has.
func (e *Engine) findUDPLite() uint64 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDPLITE)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	call := walkCall{File: uint32(fd)}
	if err := run(e.programs.FindUdplite, &call); err != nil {
		return 0
	}
	return call.Table
}

// list returns the network namespaces, that of the calling thread first, and how many
// there are beside these. The slice is valid until the next list.
func (e *Engine) list() (namespaces []walkNamespace, others int, err error) {
	var call walkCall
	if err := run(e.programs.List, &call); err != nil {
		return nil, 0, err
	}
	if call.Records == 0 {
		return nil, 0, errors.New("no network namespace is listed")
	}
	n := min(int(call.Records), len(e.namespaces))
	return e.namespaces[:n], int(call.Records) - n, nil
}

// table is one table of the kernel.
type table struct {
	name    string
	program *ebpf.Program
	// users are the cookies of namespaces that use it: each call needs one that is
	// there.
	users []uint64
	// address is that of a table which namespaces do not know.
	address uint64
}

// tables returns those that hold sockets in the wanted states of the namespaces, each
// once: namespaces share them unless they were made with their own. That of listeners
// is everyone's.
func (e *Engine) tables(namespaces []walkNamespace, want socket.StateSet) []table {
	var tables []table
	if want.Has(socket.Listen) {
		tables = append(tables, table{name: "listeners", program: e.programs.WalkListening, users: cookies(namespaces)})
	}
	if want&socket.UDPStates != 0 {
		for users := range sharing(namespaces, func(n *walkNamespace) uint64 { return n.Udp }) {
			tables = append(tables, table{name: "udp", program: e.programs.WalkUdp, users: users})
		}
		if e.udplite != 0 {
			tables = append(tables, table{name: "udplite", program: e.programs.WalkUdp, users: cookies(namespaces), address: e.udplite})
		}
	}
	if want&socket.Connections != 0 {
		for users := range sharing(namespaces, func(n *walkNamespace) uint64 { return n.Tcp }) {
			tables = append(tables, table{name: "connections", program: e.programs.WalkEstablished, users: users})
		}
	}
	return tables
}

func cookies(namespaces []walkNamespace) []uint64 {
	all := make([]uint64, len(namespaces))
	for i := range namespaces {
		all[i] = namespaces[i].Cookie
	}
	return all
}

// sharing yields the cookies of the namespaces that share a table.
func sharing(namespaces []walkNamespace, address func(*walkNamespace) uint64) func(func([]uint64) bool) {
	users := map[uint64][]uint64{}
	var order []uint64
	for i := range namespaces {
		n := &namespaces[i]
		if users[address(n)] == nil {
			order = append(order, address(n))
		}
		users[address(n)] = append(users[address(n)], n.Cookie)
	}
	return func(yield func([]uint64) bool) {
		for _, address := range order {
			if !yield(users[address]) {
				return
			}
		}
	}
}

// walk calls each with the records of a table, as many as one call of the program
// wrote, until it wants no more. The context is looked at between calls.
func (e *Engine) walk(ctx context.Context, t table, each func([]walkRecord) (more bool)) error {
	call := walkCall{Table: t.address}
	for users := t.users; len(users) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		call.Net = users[0]
		if err := run(t.program, &call); err != nil {
			return fmt.Errorf("bpf: walk %s: %w", t.name, err)
		}
		if call.Buckets == 0 { // that namespace is gone; the table is not, if another uses it
			users = users[1:]
			continue
		}
		e.moved.Add(uint64(call.Moved))
		if !each(e.records[:min(call.Records, capacity)]) || call.Bucket >= call.Buckets {
			return nil
		}
	}
	return nil
}
