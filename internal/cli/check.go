package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// CheckOptions say what [Check] reaches.
type CheckOptions struct {
	Target string
	// Module names how; empty is that of the configured target, or by the form of the
	// address.
	Module string
	// Hostname is what the target is called towards it; empty is that of the
	// configured target.
	Hostname string
	Timeout  time.Duration // zero is the module's own
	Debug    bool          // shows the log of the probe
}

// Check reaches a target once and says what came of it, as a probe of a configured
// target does. The error has status 1 when the outcome is not the one that the
// module expects, and 2 when the target could not be tried.
func Check(ctx context.Context, h *Host, o CheckOptions) error {
	target, err := h.target(ctx, o)
	if err != nil {
		return Failure(err)
	}
	var log schedule.Logbook
	r := probe.Request{Address: target.Address, Hostname: target.Hostname, Allow: h.Config.Access.Configured(target.Module, target.Address)}
	if o.Debug {
		r.Log = log.Logger()
	}
	result := target.Module.Probe(ctx, r)
	h.sayResult(ctx, &schedule.Report{Target: target, Result: result})
	fmt.Fprint(h.Stdout, plain.Text(log.Text(target.Address)))
	success, known := target.Module.Success(result)
	switch {
	case !known:
		return &ExitError{Code: statusFailure}
	case !success:
		return &ExitError{Code: statusFinding}
	default:
		return nil
	}
}

// target returns what to reach: the configured target that is meant, if there is
// one.
func (h *Host) target(ctx context.Context, o CheckOptions) (*probe.Target, error) {
	t, err := h.configured(o)
	if err != nil {
		return nil, err
	}
	if t == nil {
		m, err := h.module(o.Module, o.Target)
		if err != nil {
			return nil, err
		}
		t = &probe.Target{Address: o.Target, Module: m, Hostname: o.Hostname}
	}
	if err := cmp.Or(checkAddress(ctx, t.Module.Kind, t.Address), config.CheckHostname(t.Module, t.Hostname)); err != nil {
		return nil, err
	}
	if o.Timeout > 0 {
		changed := *t.Module
		changed.Timeout = o.Timeout
		t.Module = &changed
	}
	return t, nil
}

// configured returns a copy of the configured target with an address, if there is
// one; of several, the one without a hostname or with the default module.
func (h *Host) configured(o CheckOptions) (*probe.Target, error) {
	var found []probe.Target
	for _, t := range h.Config.Targets {
		if t.Address == o.Target && (o.Module == "" || t.Module.Name == o.Module) && (o.Hostname == "" || t.Hostname == o.Hostname) {
			found = append(found, t)
		}
	}
	usual := func(t probe.Target) bool { return o.Module != "" || t.Module.Name == config.DefaultModule(o.Target) }
	if slices.ContainsFunc(found, usual) {
		found = slices.DeleteFunc(found, func(t probe.Target) bool { return !usual(t) })
	}
	if bare := slices.IndexFunc(found, func(t probe.Target) bool { return t.Hostname == "" }); bare >= 0 {
		found = found[bare : bare+1]
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return &found[0], nil
	}
	var choices []string
	for _, t := range found {
		choices = append(choices, fmt.Sprintf("--module=%s --hostname=%s", t.Module.Name, t.Hostname))
	}
	return nil, fmt.Errorf("%s is the address of %d configured targets\nhint: choose one: %s", o.Target, len(found), strings.Join(choices, ", or "))
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
	return nil, fmt.Errorf("--module=%s: unknown module\nhint: must be one of %s", name, strings.Join(h.Config.ModuleNames(), ", "))
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
	about := own.Facts(r)
	judged := verdict.Judge(&about)
	fmt.Fprintf(h.Stdout, "%s.\n", plain.Line(judged.Sentence))
	success, known := r.Target.Module.Success(r.Result)
	facts := []string{"outcome " + r.Result.Outcome.String() + expectation(r.Target.Module, success)}
	if r.Result.Phase != probe.PhaseNone {
		facts = append(facts, "phase "+r.Result.Phase.String(), "origin "+r.Result.Origin.String())
	}
	if r.Result.ICMP.Offender.IsValid() {
		facts = append(facts, "offender "+r.Result.ICMP.Offender.String())
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
	if about.Listener != nil {
		fmt.Fprintf(h.Stdout, "It is an address of this host, where %s.\n", plain.Line(about.Listener.String()))
	}
	if judged.Next != "" && !(known && success) {
		fmt.Fprintf(h.Stdout, "Try: %s\n", plain.Line(judged.Next))
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
