// Package bench measures a scrape beside its peers, in one run: the loop that
// receives the kernel's dump and throws it away (the floor), /proc/net/tcp,
// gopsutil and ss(8). It has no code but benchmarks; see docs/performance.md.
package bench
