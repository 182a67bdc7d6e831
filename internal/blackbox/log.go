package blackbox

import (
	"context"
	"log/slog"
	"sync"

	"github.com/miekg/dns"
)

// maxErrors is how many errors of one probe are kept: the icmp prober logs one
// for each packet that it cannot read.
const maxErrors = 16

// record is what a prober logged, by value and not by text.
type record struct {
	errs     []error  // the attributes err of warnings and errors, the first maxErrors and the last
	response *dns.Msg // the attribute response, which only the dns prober has
}

// last returns the last error, or nil.
func (r record) last() error {
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs[len(r.errs)-1]
}

// handler keeps what a prober logs, and hands it on to who wants to read it.
type handler struct {
	next slog.Handler // nil if nobody does
	kept *kept
}

type kept struct {
	mu sync.Mutex
	record
}

func newHandler(log *slog.Logger) *handler {
	h := &handler{kept: &kept{}}
	if log != nil {
		h.next = log.Handler()
	}
	return h
}

func (h *handler) record() record {
	h.kept.mu.Lock()
	defer h.kept.mu.Unlock()
	return record{errs: append([]error(nil), h.kept.errs...), response: h.kept.response}
}

// Enabled implements [slog.Handler]. The DNS message is logged at level debug.
func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		h.kept.add(r.Level, a)
		return true
	})
	if h.next == nil || !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func (k *kept) add(level slog.Level, a slog.Attr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch value := a.Value.Any().(type) {
	case error:
		if a.Key != "err" || level < slog.LevelWarn {
			return
		}
		if len(k.errs) == maxErrors {
			k.errs = k.errs[:maxErrors-1]
		}
		k.errs = append(k.errs, value)
	case *dns.Msg:
		k.response = value
	}
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if h.next == nil {
		return h
	}
	return &handler{next: h.next.WithAttrs(attrs), kept: h.kept}
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	if h.next == nil {
		return h
	}
	return &handler{next: h.next.WithGroup(name), kept: h.kept}
}
