// Package bpfwalk reads the sockets of all network namespaces with one walk of the
// kernel's tables, by BPF programs that are called for it and attached to nothing.
//
// walk.bpf.c has the programs; `make bpf` compiles them and writes walk_bpfel.o and
// walk_bpfel.go. The object and its source are under GPL-2.0-only or BSD-2-Clause,
// since the kernel gives the functions they call to GPL-compatible programs alone.
package bpfwalk

//go:generate go tool -modfile=../../tools.mod bpf2go -target bpfel -go-package bpfwalk -tags linux,!386,!arm,!mipsle,!wasm -no-global-types -type record -type namespace -type call walk walk.bpf.c -- -O2 -Wall -Werror
