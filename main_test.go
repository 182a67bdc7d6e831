package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestMain lets scripts and tests run port_exporter as a program: it is in
// their PATH.
func TestMain(m *testing.M) {
	testscript.Main(waiting{m}, commands())
}

type waiting struct{ *testing.M }

func (w waiting) Run() int { return porttest.RunWaiting(w.M) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}
