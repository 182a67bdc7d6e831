package panics

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func stumble() { panic("no legs") }

func TestRecovered(t *testing.T) {
	if Recovered(nil) != nil {
		t.Error("there was no panic")
	}
	caught := func(f func()) (err *Error) {
		defer func() { err = Recovered(recover()) }()
		f()
		return nil
	}
	err := caught(stumble)
	if err == nil || err.Error() != "panic: no legs" || !strings.Contains(string(err.Stack), "stumble") {
		t.Fatalf("%v\n%s", err, err.Stack)
	}
	if again := caught(func() { panic(err) }); again != err {
		t.Errorf("an error that is brought on is %v", again)
	}
	var log bytes.Buffer
	Log(slog.New(slog.NewTextHandler(&log, nil)), "walk", err)
	for _, want := range []string{`level=ERROR msg="panic, please report this" in=walk`, `panic="no legs"`, "stumble"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, &log)
		}
	}
}
