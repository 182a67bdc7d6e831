package netns

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// addresses returns the addresses of a namespace, nil if they cannot be read. The files of a
// process in it require no privilege; without a process it must be entered.
func (r *Reader) addresses(ctx context.Context, inode uint64, places Places) (all []netip.Addr) {
	place := places[inode]
	for _, pid := range place.PIDs {
		process := filepath.Join(r.options.Procfs, strconv.Itoa(int(pid)))
		link, _ := os.Readlink(filepath.Join(process, "ns/net"))
		if at, ok := inodeOf(link); ok && at == inode {
			if all = readAddresses(filepath.Join(process, "net")); all != nil {
				return all
			}
		}
	}
	_ = r.options.Worker.doAny(ctx, inode, place.paths(r.options.Procfs), func(string) error {
		all = readAddresses(filepath.Join(r.options.Procfs, "thread-self/net"))
		return nil
	})
	return all
}

// readAddresses reads the files of a directory net. One that cannot be read has none.
func readAddresses(dir string) []netip.Addr {
	four, _ := readFile(filepath.Join(dir, "fib_trie"))
	six, _ := readFile(filepath.Join(dir, "if_inet6"))
	return localAddresses(string(four), string(six))
}

// joinAddresses returns those of two namespaces with the same name.
func joinAddresses(a, b func(context.Context) []netip.Addr) func(context.Context) []netip.Addr {
	return func(ctx context.Context) []netip.Addr { return slices.Concat(a(ctx), b(ctx)) }
}
