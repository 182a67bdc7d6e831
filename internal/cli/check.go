package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/ownhost"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Check reaches a target once and says what came of it. Without the name of a
// module the form of the address decides, as for configured targets. A timeout of
// zero is the module's own. The error has status 1 when the outcome is not the one that the
// module expects, and 2 when the target could not be tried.
func Check(ctx context.Context, h *Host, address, module string, timeout time.Duration) error {
	m, err := h.module(module, address)
	if err != nil {
		return Failure(err)
	}
	if err := checkAddress(ctx, m.Kind, address); err != nil {
		return Failure(err)
	}
	if timeout > 0 {
		changed := *m
		changed.Timeout = timeout
		m = &changed
	}
	target := &probe.Target{Address: address, Module: m}
	result := m.Probe(ctx, probe.Request{Address: address})
	h.sayResult(ctx, &schedule.Report{Target: target, Result: result})
	success, known := m.Success(result)
	switch {
	case !known:
		return &ExitError{Code: statusFailure}
	case !success:
		return &ExitError{Code: statusFinding}
	default:
		return nil
	}
}

// module returns the module of a name, else the one that the form of the address
// asks for.
func (h *Host) module(name, address string) (*probe.Module, error) {
	if name = cmp.Or(name, config.DefaultModule(address)); name == "" {
		return nil, fmt.Errorf("%q has no port, and there is no module\nhint: %s:443 is probed by tcp; --module=icmp pings", address, address)
	}
	if m := h.Config.Module(name); m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("--module=%s: there is no such module\nhint: there are: %s", name, strings.Join(h.Config.ModuleNames(), ", "))
}

// checkAddress reports what is wrong with an address. A person may give the name of
// a service for a port; a configured target has the number in its label.
func checkAddress(ctx context.Context, kind, address string) error {
	to, err := probe.ParseAddress(kind, address)
	if err != nil {
		return err
	}
	if port, err := (dial.Resolution{}).LookUpPort(ctx, "ip", to.Port); err == nil && kind != probe.KindHTTP {
		to.Port = strconv.Itoa(int(port))
	}
	return config.CheckAddress(kind, to)
}

// sayResult writes the outcome in a sentence, who said so, and what the
// listeners of this host make of it.
func (h *Host) sayResult(ctx context.Context, r *schedule.Report) {
	own := ownhost.New(h.System.Addresses, func() (*socket.Table, error) {
		return Within(ctx, "read the listeners", h.System.Reader().Listening)
	})
	answer, isOwn := own.Answer(r)
	fmt.Fprintf(h.Stdout, "%s.\n", plain.Line(ownhost.Sentence(r, answer, isOwn)))
	success, known := r.Target.Module.Success(r.Result)
	facts := []string{"outcome " + r.Result.Outcome.String() + expectation(r.Target.Module, success)}
	if r.Result.Phase != probe.PhaseNone {
		facts = append(facts, "phase "+r.Result.Phase.String(), "origin "+r.Result.Origin.String())
	}
	if r.Result.Offender.IsValid() {
		facts = append(facts, "offender "+r.Result.Offender.String())
	}
	if r.Result.Peer.IsValid() {
		facts = append(facts, "address "+r.Result.Peer.String())
	}
	facts = append(facts, fmt.Sprintf("%.1f ms", r.Result.Duration.Seconds()*1000))
	fmt.Fprintf(h.Stdout, "%s\n", strings.Join(facts, ", "))
	if r.Result.Err != nil {
		what := "error"
		if known && success {
			what = "detail"
		}
		fmt.Fprintf(h.Stdout, "%s: %s\n", what, plain.Line(strings.ReplaceAll(probe.Redact(r.Result.Err.Error(), r.Target.Address), "\n", "; ")))
	}
	if isOwn {
		fmt.Fprintf(h.Stdout, "It is an address of this host, where %s.\n", plain.Line(answer.String()))
	}
}

// expectation says whether an outcome is the one that a module asks for, where
// that is another than open.
func expectation(m *probe.Module, success bool) string {
	switch {
	case m.Expect == probe.Open:
		return ""
	case success:
		return " as expected"
	default:
		return " and not " + m.Expect.String() + " as expected"
	}
}
