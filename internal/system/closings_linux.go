package system

import (
	"github.com/port-exporter/port_exporter/internal/closed"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
)

func closings() (closed.Stream, error) { return sockdiag.Subscribe() }
