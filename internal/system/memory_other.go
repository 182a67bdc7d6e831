//go:build !linux

package system

// MemoryLimit reports that no limit on memory is known.
func MemoryLimit() (bytes uint64, limited bool) { return 0, false }
