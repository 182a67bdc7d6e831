// Package probetest tests what the program says of whether ports can be reached, as users
// see it: the command check, probes and traces of targets, /probe, and the pages for people.
// It has tests only.
package probetest
