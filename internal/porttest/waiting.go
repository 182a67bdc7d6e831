package porttest

import (
	"flag"
	"testing"
)

// RunWaiting runs the tests of a package that waits for real time more than it
// computes: sixteen of those that call Parallel at once, however few cores there
// are, unless -parallel says otherwise. It returns the exit status.
func RunWaiting(m *testing.M) int {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" || f.Name == "test.fuzz" })
	if !chosen {
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
	}
	return m.Run()
}
