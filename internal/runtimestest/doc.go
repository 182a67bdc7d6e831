// Package runtimestest tests what is exported of the containers of real runtimes, and of
// services with a network namespace of their own: make e2e-runtimes.
package runtimestest
