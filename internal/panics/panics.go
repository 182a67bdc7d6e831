// Package panics makes panics errors: what a file, a peer or a client brings about must
// not end what serves. Each is a fault of the exporter, which the log reports.
package panics

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Error is the error of what panicked. Its text has no stack, since clients may see it.
type Error struct {
	Value any
	Stack []byte
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Recovered returns what recover returned as an error; nil for nil. An [*Error] that
// another goroutine brought keeps its stack.
func Recovered(value any) *Error {
	if value == nil {
		return nil
	}
	if e, ok := value.(*Error); ok {
		return e
	}
	return &Error{value, debug.Stack()}
}

// Log logs a panic with its stack, and what panicked.
func Log(logger *slog.Logger, what string, err *Error) {
	logger.Error("panic, please report this", "in", what, "panic", fmt.Sprint(err.Value), "stack", string(err.Stack))
}
