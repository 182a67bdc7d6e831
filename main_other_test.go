//go:build !linux

package main

// commands are the programs that scripts and tests find in their PATH.
func commands() map[string]func() { return map[string]func(){"port_exporter": main} }
