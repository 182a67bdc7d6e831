package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// outputText is a value of --output of check, beside outputJSON.
const outputText = "text"

// checkOptions say what [checkTargets] reaches, and how.
type checkOptions struct {
	Targets []string
	// Module names how; empty is that of the configured target, or by the form of the
	// address.
	Module string
	// Hostname is what the target is called towards it; empty is that of the
	// configured target.
	Hostname string
	Form     check.FormOptions
	Netns    string        // the network namespace of this host to probe from; empty is that of the configured target
	From     string        // an address of this host, or an interface
	AllIPs   bool          // the module probes every address of the name
	Trace    bool          // traces the path to the address that was tried
	Timeout  time.Duration // zero is the module's own
	Debug    bool          // shows the log of the probe
	Output   string        // outputText or outputJSON; empty is outputText
	Quiet    bool          // the exit status says all
	Wait     time.Duration // how long a target may take to be as expected
	Watch    bool          // checks again each second
}

// check refuses options that make no sense together.
func (o *checkOptions) check() error {
	switch {
	case o.Output != "" && o.Output != outputText && o.Output != outputJSON:
		return fmt.Errorf("--output=%s: unknown output format\nhint: must be one of %s, %s", o.Output, outputText, outputJSON)
	case o.Timeout < 0:
		return fmt.Errorf("--timeout=%v: must not be negative", o.Timeout)
	case o.Wait < 0:
		return fmt.Errorf("--wait=%v: must not be negative", o.Wait)
	case o.Wait > 0 && o.Watch:
		return errors.New("--wait and --watch: only one of them is possible")
	case o.Quiet && o.Watch:
		return errors.New("--quiet and --watch: nothing would be shown, and it would not end")
	case o.Trace && (o.Wait > 0 || o.Watch):
		return errors.New("--trace and --wait or --watch: only one of them is possible")
	case o.Module != "" && (o.Form.UDP || o.Form.TLS):
		return errors.New("--module and --udp or --tls: only one of them is possible")
	default:
		return nil
	}
}

// checkTargets reaches targets and says what came of it, as probes of configured targets do.
// The error has status 1 when the outcome of one is not what its module expects, and 2
// when one could not be tried.
func checkTargets(ctx context.Context, h *Command, o checkOptions) error {
	if err := o.check(); err != nil {
		return failure(err)
	}
	var requests []check.Request
	for _, text := range o.Targets {
		found, err := h.requests(ctx, text, &o)
		if err != nil {
			return failure(err)
		}
		requests = append(requests, found...)
	}
	c := &checks{host: h, options: &o, of: check.Of(h.System), requests: requests, last: make([]string, len(requests))}
	status := c.round(ctx)
	for o.Watch {
		select {
		case <-ctx.Done():
			return exit(status)
		case <-time.After(time.Second):
			status = c.round(ctx)
		}
	}
	return exit(status)
}

func exit(status int) error {
	if status == 0 {
		return nil
	}
	return &ExitError{Code: status}
}

// checks are the targets of one command.
type checks struct {
	host     *Command
	options  *checkOptions
	of       *check.Host
	requests []check.Request
	last     []string // sentence and success of the latest round, by target
}

// maxChecks bounds how many targets are checked concurrently.
const maxChecks = 16

// round checks every target, and writes the reports in their order. It returns the exit
// status.
func (c *checks) round(ctx context.Context) (status int) {
	type done struct {
		report *check.Report
		log    string
	}
	reports := make([]chan done, len(c.requests))
	slots := make(chan struct{}, maxChecks)
	var all sync.WaitGroup
	for i := range c.requests {
		reports[i] = make(chan done, 1)
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			report, log := c.run(ctx, c.requests[i])
			reports[i] <- done{report, log}
		})
	}
	for i := range reports {
		d := <-reports[i]
		c.write(i, d.report, d.log)
		switch {
		case !d.report.Known:
			status = max(status, statusFailure)
		case !d.report.Success:
			status = max(status, statusFinding)
		}
	}
	all.Wait()
	return status
}

// run checks one target, until it is as expected if it is to be waited for.
func (c *checks) run(ctx context.Context, q check.Request) (*check.Report, string) {
	end := time.Now().Add(c.options.Wait)
	limit := q.Target.Module.Limit()
	for {
		var log schedule.Logbook
		if c.options.Debug {
			q.Probe.Log = log.Logger()
		}
		if c.options.Wait > 0 {
			q.Target = withTimeout(q.Target, min(limit, max(time.Until(end), time.Second)))
		}
		report := c.of.Run(ctx, q)
		left := time.Until(end)
		if report.Success || left <= 0 || ctx.Err() != nil {
			return report, log.Text(q.Target.Address)
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(left, pause)):
		}
	}
}

// pause is how long --wait rests before it tries again.
const pause = 500 * time.Millisecond

// write writes a report: whole, or in a line if the one before said the same.
func (c *checks) write(i int, r *check.Report, log string) {
	out := c.host.Stdout
	said := fmt.Sprint(r.Verdict.Sentence, r.Success)
	again := c.options.Watch && said == c.last[i]
	c.last[i] = said
	switch {
	case c.options.Quiet:
	case c.options.Output == outputJSON:
		line, err := r.JSON()
		if err != nil {
			fmt.Fprintf(c.host.Stderr, "%v\n", err)
			return
		}
		fmt.Fprintf(out, "%s\n", line)
	case again:
		fmt.Fprintf(out, "%s  %s, %.1f ms\n", time.Now().Format(time.TimeOnly), plain.Line(r.Verdict.Sentence), r.Result.Duration.Seconds()*1000)
	default:
		if i > 0 {
			fmt.Fprintln(out)
		}
		styles := check.Styles{}
		if isTerminal(out) {
			styles = check.Terminal()
		}
		fmt.Fprint(out, r.Text(styles))
	}
	if log != "" && !c.options.Quiet {
		to := out
		if c.options.Output == outputJSON {
			to = c.host.Stderr
		}
		fmt.Fprint(to, plain.Text(log))
	}
}

// requests returns what a text on the command line asks for: a target, or the listeners
// of a unit or container.
func (h *Command) requests(ctx context.Context, text string, o *checkOptions) ([]check.Request, error) {
	targets, err := h.targets(ctx, text, o)
	if err != nil {
		return nil, err
	}
	var all []check.Request
	for _, t := range targets {
		if err := cmp.Or(checkAddress(ctx, t.Module.Kind, t.Address), config.CheckHostname(t.Module, t.Hostname), checkNetns(t)); err != nil {
			return nil, err
		}
		if o.Timeout > 0 {
			t = withTimeout(t, o.Timeout)
		}
		source, device, err := h.source(ctx, o.From, t)
		if err != nil {
			return nil, err
		}
		all = append(all, check.Request{
			Target: t, AllAddresses: o.AllIPs, Trace: o.Trace,
			Probe: probe.Request{Source: source, Device: device, Allow: h.Config.Access.Configured(t.Module, t.Address)},
		})
	}
	return all, nil
}

func withTimeout(t *probe.Target, timeout time.Duration) *probe.Target {
	changed, module := *t, *t.Module
	module.Timeout = timeout
	changed.Module = &module
	return &changed
}

// targets returns what to reach: the configured target that is meant, if there is one.
func (h *Command) targets(ctx context.Context, text string, o *checkOptions) ([]*probe.Target, error) {
	if text == "" {
		return nil, errors.New("the target is empty\nhint: a script may have a variable that is not set")
	}
	t, err := h.configured(text, o)
	if err != nil || t != nil {
		return []*probe.Target{t}, err
	}
	form := check.Form{Address: text, Name: o.Module}
	if o.Module == "" {
		if form, err = check.ParseForm(text, o.Form); err != nil {
			return nil, err
		}
	}
	if o.Netns != "" && form.Module == nil && cmp.Or(form.Name, config.DefaultModule(form.Address)) == "" {
		return nil, fmt.Errorf("%q has no port, and there is no module\nhint: %s:443 is probed by tcp; --module=icmp pings; units and containers are those of the own network namespace", text, text)
	}
	if form.Module == nil && cmp.Or(form.Name, config.DefaultModule(form.Address)) == "" {
		return h.ownedBy(ctx, text)
	}
	m := form.Module
	if m == nil {
		if m, err = h.module(cmp.Or(form.Name, config.DefaultModule(form.Address))); err != nil {
			return nil, err
		}
	}
	return []*probe.Target{{Address: form.Address, Module: m, Hostname: o.Hostname, Netns: o.Netns}}, nil
}

// configured returns a copy of the configured target with an address, if there is
// one; of several, the one of our own network namespace, without a hostname or with the
// default module.
func (h *Command) configured(text string, o *checkOptions) (*probe.Target, error) {
	if o.Form != (check.FormOptions{}) {
		return nil, nil
	}
	var found []probe.Target
	for _, t := range h.Config.Targets {
		if t.Address == text && (o.Module == "" || t.Module.Name == o.Module) && (o.Hostname == "" || t.Hostname == o.Hostname) && (o.Netns == "" || t.Netns == o.Netns) {
			found = append(found, t)
		}
	}
	own := func(t probe.Target) bool { return t.Netns == "" }
	if slices.ContainsFunc(found, own) {
		found = slices.DeleteFunc(found, func(t probe.Target) bool { return !own(t) })
	}
	usual := func(t probe.Target) bool { return o.Module != "" || t.Module.Name == config.DefaultModule(text) }
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
		choice := fmt.Sprintf("--module=%s --hostname=%s", t.Module.Name, t.Hostname)
		if t.Netns != "" {
			choice += " --netns=" + plain.Name(t.Netns)
		}
		choices = append(choices, choice)
	}
	return nil, fmt.Errorf("%s is the address of %d configured targets\nhint: choose one: %s", text, len(found), strings.Join(choices, ", or "))
}

// checkNetns reports what is wrong with the network namespace of a target.
func checkNetns(t *probe.Target) error {
	if err := config.CheckNetns(t.Module, t.Netns); err != nil {
		return fmt.Errorf("--netns: %w", err)
	}
	return nil
}

// module returns the module of a name.
func (h *Command) module(name string) (*probe.Module, error) {
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
