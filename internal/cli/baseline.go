package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/policy"
)

// Baseline writes a policy that expects what listens now. With a file, it
// writes that file with rules added for what its policy does not expect;
// everything that stands in it stays as it is.
func Baseline(ctx context.Context, h *Host, merge string) error {
	if merge == "" {
		owned, err := h.read(ctx)
		if err != nil {
			return Failure(err)
		}
		return h.print(config.WritePolicy(policy.Baseline(owned)))
	}
	text, err := os.ReadFile(merge)
	if err != nil {
		return Failure(err)
	}
	if h.Config, err = config.ParseIn(filepath.Dir(merge), text); err != nil {
		return Failure(fmt.Errorf("%s: %w", merge, err))
	}
	owned, err := h.read(ctx)
	if err != nil {
		return Failure(err)
	}
	return h.print(config.MergePolicy(filepath.Dir(merge), text, policy.Merge(h.Config.Policy, owned)))
}

func (h *Host) print(text []byte, err error) error {
	if err != nil {
		return Failure(err)
	}
	if _, err := h.Stdout.Write(text); err != nil {
		return Failure(err)
	}
	return nil
}
