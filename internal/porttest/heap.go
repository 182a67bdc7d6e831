package porttest

import "runtime"

// HeapInUse returns the bytes of the heap that are in use, after a collection.
func HeapInUse() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapInuse)
}
