package probes

import (
	"context"
	"fmt"
	"net/http"

	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// checkDenied is the answer to a check from elsewhere: its evidence has what the log of a
// probe has.
const checkDenied = "checks are for clients on this host\n" + hintLocal

// Check takes the connection to a target apart: ?target=…&module=…&hostname=…. The
// access, the slots and the time are those of a probe on request. If there is no report,
// it has answered.
func (s *Server) Check(w http.ResponseWriter, r *http.Request) (*check.Report, bool) {
	if !s.MayDebug(r) {
		http.Error(w, checkDenied, http.StatusForbidden)
		return nil, false
	}
	plan := s.Plan()
	ask, timeout, err := s.parse(plan, r, moduleOf(plan, r.URL.Query().Get("target")))
	if err != nil {
		http.Error(w, plain.Text(err.Error()), statusOf(err, http.StatusBadRequest))
		return nil, false
	}
	var report *check.Report
	ask.Probe = func(ctx context.Context, t *probe.Target, request probe.Request) probe.Result {
		report = s.Checked.Run(ctx, check.Request{Target: t, Probe: request})
		return report.Result
	}
	entry, ok := s.once(w, r, plan, ask, timeout)
	if !ok { // the check may still be under way, and write
		return nil, false
	}
	if report == nil { // it got no slot in time
		http.Error(w, plain.Text(fmt.Sprint(entry.Result.Err)), http.StatusServiceUnavailable)
		return nil, false
	}
	return report, true
}

// moduleOf returns the name of the module of the first configured target with an
// address, or the default.
func moduleOf(plan *schedule.Plan, address string) string {
	for i := range plan.Targets {
		if t := &plan.Targets[i]; t.Address == address {
			return t.Module.Name
		}
	}
	return defaultModule
}
