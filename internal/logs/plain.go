package logs

import (
	"context"
	"log/slog"

	"github.com/port-exporter/port_exporter/internal/plain"
)

// Plain returns a handler for a format that leaves format characters as they are, such
// as JSON: it escapes them in texts and errors.
func Plain(handler slog.Handler) slog.Handler { return plainly{handler} }

type plainly struct{ slog.Handler }

// Handle implements [slog.Handler].
func (p plainly) Handle(ctx context.Context, r slog.Record) error {
	escaped := slog.NewRecord(r.Time, r.Level, plain.Text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		escaped.AddAttrs(escape(a))
		return true
	})
	return p.Handler.Handle(ctx, escaped)
}

// WithAttrs implements [slog.Handler].
func (p plainly) WithAttrs(attrs []slog.Attr) slog.Handler {
	escaped := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		escaped[i] = escape(a)
	}
	return plainly{p.Handler.WithAttrs(escaped)}
}

// WithGroup implements [slog.Handler].
func (p plainly) WithGroup(name string) slog.Handler { return plainly{p.Handler.WithGroup(name)} }

func escape(a slog.Attr) slog.Attr {
	value := a.Value.Resolve()
	if err, ok := value.Any().(error); ok {
		value = slog.StringValue(err.Error())
	}
	if value.Kind() == slog.KindString {
		value = slog.StringValue(plain.Text(value.String()))
	}
	return slog.Attr{Key: a.Key, Value: value}
}
