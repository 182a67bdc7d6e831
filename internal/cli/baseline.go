package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
)

// BaselineOptions are the flags of the command baseline.
type BaselineOptions struct {
	Merge     string // the file to add rules to
	Ephemeral bool   // expect any ephemeral port of a program that has one
}

// Baseline writes a policy that expects what listens now. With a file, it
// writes that file with rules added for what its policy does not expect;
// everything that stands in it stays as it is.
func Baseline(ctx context.Context, h *Command, o BaselineOptions) error {
	options := policy.Options{Now: h.now(), Ephemeral: o.Ephemeral}
	if o.Merge == "" {
		owners, err := h.read(ctx)
		if err != nil {
			return failure(err)
		}
		h.sayUnknown(owners)
		h.sayMissing(owners)
		return h.print(config.WritePolicy(policy.Baseline(owners.everywhere(), options)))
	}
	text, err := beside.Once(ctx, func() ([]byte, error) {
		return files.Rules{Pipes: true}.Read(ctx, o.Merge)
	})
	if err != nil {
		return failure(err)
	}
	if h.Config, err = config.ParseIn(filepath.Dir(o.Merge), text); err != nil {
		return failure(fmt.Errorf("%s: %w", o.Merge, err))
	}
	owners, err := h.read(ctx)
	if err != nil {
		return failure(err)
	}
	h.sayUnknown(owners)
	h.sayMissing(owners)
	h.sayLeftOut(owners)
	return h.print(config.MergePolicy(filepath.Dir(o.Merge), text, policy.Merge(h.Config.Policy, owners.everywhere(), options)))
}

// sayLeftOut says what no rule is added for.
func (h *Command) sayLeftOut(owners reading) {
	j := h.judge(owners)
	for _, r := range j.rows {
		if r.Verdict == policy.Forbidden.String() {
			fmt.Fprintf(h.Stderr, "no rule is added for %s: rule %s forbids it\n", r.endpoint(), plain.Name(r.Rule))
		}
	}
	if n := j.kinds[policy.Unverified]; n > 0 {
		fmt.Fprintf(h.Stderr, "no rule is added for %d listeners whose owner could not be read: a rule may expect them already\n", n)
	}
}

func (h *Command) print(text []byte, err error) error {
	if err != nil {
		return failure(err)
	}
	if _, err := h.Stdout.Write(text); err != nil {
		return failure(err)
	}
	return nil
}
