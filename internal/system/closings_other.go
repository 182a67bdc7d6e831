//go:build !linux

package system

import (
	"errors"

	"github.com/port-exporter/port_exporter/internal/closed"
)

func closings() (closed.Stream, error) { return nil, errors.ErrUnsupported }
