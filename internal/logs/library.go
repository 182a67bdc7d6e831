package logs

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"

	"google.golang.org/grpc/grpclog"
)

// maxText is how much of a line of a library is kept, in bytes: some repeat what a
// target sent.
const maxText = 512

// maxStack is how much of a panic is kept, in bytes.
const maxStack = 64 << 10

// Library is an io.Writer for [log.SetOutput] that writes each line to a logger.
// Flags of package log must be 0.
type Library struct{ Logger *slog.Logger }

// Write implements [io.Writer]. A panic that net/http caught is an error, with its
// stack.
func (l Library) Write(line []byte) (int, error) {
	text, log, most := bytes.TrimSpace(line), l.Logger.Warn, maxText
	if bytes.HasPrefix(text, []byte("http: panic serving ")) || bytes.HasPrefix(text, []byte("http2: panic serving ")) {
		log, most = l.Logger.Error, maxStack
	}
	cut := bytes.ToValidUTF8(text[:min(len(text), most)], nil)
	log("message of a library", "text", string(cut))
	return len(line), nil
}

// GRPC is a logger for [grpclog.SetLoggerV2] that writes what package log writes:
// errors only, as is grpc's default.
type GRPC struct{}

var _ grpclog.LoggerV2 = GRPC{}

// Info implements [grpclog.LoggerV2].
func (GRPC) Info(...any) {}

// Infoln implements [grpclog.LoggerV2].
func (GRPC) Infoln(...any) {}

// Infof implements [grpclog.LoggerV2].
func (GRPC) Infof(string, ...any) {}

// Warning implements [grpclog.LoggerV2].
func (GRPC) Warning(...any) {}

// Warningln implements [grpclog.LoggerV2].
func (GRPC) Warningln(...any) {}

// Warningf implements [grpclog.LoggerV2].
func (GRPC) Warningf(string, ...any) {}

// Error implements [grpclog.LoggerV2].
func (GRPC) Error(args ...any) { log.Print("grpc: ", fmt.Sprint(args...)) }

// Errorln implements [grpclog.LoggerV2].
func (GRPC) Errorln(args ...any) { log.Print("grpc: ", fmt.Sprintln(args...)) }

// Errorf implements [grpclog.LoggerV2].
func (GRPC) Errorf(format string, args ...any) { log.Print("grpc: ", fmt.Sprintf(format, args...)) }

// Fatal implements [grpclog.LoggerV2]. grpc ends the program itself.
func (g GRPC) Fatal(args ...any) { g.Error(args...) }

// Fatalln implements [grpclog.LoggerV2].
func (g GRPC) Fatalln(args ...any) { g.Errorln(args...) }

// Fatalf implements [grpclog.LoggerV2].
func (g GRPC) Fatalf(format string, args ...any) { g.Errorf(format, args...) }

// V implements [grpclog.LoggerV2].
func (GRPC) V(int) bool { return false }
