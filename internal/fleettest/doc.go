// Package fleettest tests what many hosts cost a Prometheus: how many series a typical
// host has and how many any host can have, how targets are shared, and on demand what a
// Prometheus needs for thousands of hosts. It has no code of its own.
package fleettest
