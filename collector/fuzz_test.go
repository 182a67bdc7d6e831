package collector

import (
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// FuzzExposition has any text as the name of a device: the exposition can be parsed,
// and has the listener.
func FuzzExposition(f *testing.F) {
	for _, name := range []string{"eth0", "a\"b\\c\nd\xff", "\x1b[31m", "\u202e", "\x00", "{}", " "} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		o := options(porttest.Sockets{made(socket.TCP, socket.Listen, "0.0.0.0:80", "", device(name))})
		text := exposition(t, t.Context(), o, Filter{Collectors: []string{"listeners"}})
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if n := len(families["port_listener_sockets"].GetMetric()); n != 1 {
			t.Errorf("%d listeners", n)
		}
	})
}
