//go:build !linux

package system

import "log/slog"

// namespaces returns nil: other systems have none, or none that are known.
func namespaces(*System, string, string, string, *slog.Logger) Namespaces { return nil }
