package owner

import (
	"os"
	"path/filepath"
	"strconv"
)

// Oldest returns where the oldest of some processes is placed, of a procfs that is
// mounted at a place. It is not ok if none of them is there any more.
func Oldest(procfs string, pids []int32) (p Placement, ok bool) {
	var oldest process
	for _, pid := range pids {
		stat, err := os.ReadFile(filepath.Join(procfs, strconv.Itoa(int(pid)), "stat"))
		if err != nil {
			continue
		}
		if found, err := parseStat(stat); err == nil && (!ok || found.start < oldest.start) {
			oldest, ok = found, true
		}
	}
	if !ok {
		return Placement{}, false
	}
	text, err := os.ReadFile(filepath.Join(procfs, strconv.Itoa(int(oldest.pid)), "cgroup"))
	return PlacementOf(cgroupPath(string(text))), err == nil
}
