package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/grpclog"
)

// TestLimited floods the log with one message. Another one is not held up by it.
func TestLimited(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	logger := slog.New(Limited(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}), func() time.Time { return now }))
	for i := range 1000 {
		logger.With("of", "it").Warn("flood", "n", i)
		logger.Debug("detail")
	}
	logger.Info("other")
	for message, want := range map[string]int{"flood": maxLines, "detail": 1000, "other": 1, `limit="more lines`: 1, "dropped=": 0} {
		if got := strings.Count(out.String(), message); got != want {
			t.Errorf("%q is in %d lines, want %d", message, got, want)
		}
	}
	out.Reset()
	now = now.Add(window)
	logger.Warn("flood")
	if want := fmt.Sprintf("msg=flood dropped=%d\n", 1000-maxLines); !strings.HasSuffix(out.String(), want) {
		t.Errorf("%s, want %s", out.String(), want)
	}
	for i := range 3 * maxMessages {
		logger.Warn(fmt.Sprint("message ", i)) //nolint:sloglint // as of a library
	}
	if n := len(logger.Handler().(limited).of); n > maxMessages {
		t.Errorf("%d messages are remembered", n)
	}
}

// TestLibrary has package log and grpc write what targets sent.
func TestLibrary(t *testing.T) {
	var out bytes.Buffer
	flags, writer := log.Flags(), log.Writer()
	t.Cleanup(func() { log.SetFlags(flags); log.SetOutput(writer) })
	log.SetFlags(0)
	log.SetOutput(Library{slog.New(slog.NewTextHandler(&out, nil))})
	grpclog.SetLoggerV2(GRPC{})

	log.Printf("Unsolicited response on idle HTTP channel starting with %s", "\x1b[2J\n\u202elevel=INFO"+strings.Repeat("é", 5000))
	grpclog.Component("transport").Error("broken ", "frame\nlevel=INFO")
	grpclog.Info("chatter")
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2:\n%s", len(lines), out.String())
	}
	for i, want := range []string{`\x1b[2J\n\u202elevel=INFO`, `frame\nlevel=INFO`} {
		if !strings.Contains(lines[i], `level=WARN msg="message of a library" text=`) || !strings.Contains(lines[i], want) || len(lines[i]) > 3*maxText {
			t.Errorf("%s", lines[i])
		}
	}
}

// TestLibraryPanic is whole, and an error.
func TestLibraryPanic(t *testing.T) {
	stack := strings.Repeat("goroutine 1 [running]:\n", 100)
	for _, text := range []string{"http: panic serving 192.0.2.1:1: boom\n" + stack, "http2: panic serving 192.0.2.1:1: boom\n" + stack} {
		var out bytes.Buffer
		if _, err := (Library{slog.New(slog.NewTextHandler(&out, nil))}).Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, "level=ERROR") || strings.Count(got, "[running]") != 100 {
			t.Errorf("%s", got)
		}
	}
}

// TestPlain has texts of strangers in a log of JSON.
func TestPlain(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(Plain(slog.NewJSONHandler(&out, nil)))
	logger.With("of", "\u202ea").Warn("failed", "text", "\u009b31m", "err", errors.New("a\nhint: \u2066b"), "n", 3)
	if want := `"msg":"failed","of":"\\u202ea","text":"\\u009b31m","err":"a\nhint: \\u2066b","n":3}` + "\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%s, want %s", out.String(), want)
	}
}
