package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/panics"
)

// TestPanicOfAReload has a daemon that cannot build what a configuration says: it
// lacks a host. The reload fails, what was in force stays,
// and the next reload is not held up.
func TestPanicOfAReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	if err := os.WriteFile(file, []byte("limits: {outbound_ports: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d := &daemon{
		options: Options{ConfigFile: file}, logger: slog.New(slog.NewTextHandler(&log, nil)),
		files: files.NewCalls(), reloading: make(chan struct{}, 1),
		success: prometheus.NewGauge(prometheus.GaugeOpts{Name: "success"}), loadedAt: prometheus.NewGauge(prometheus.GaugeOpts{Name: "at"}),
	}
	before := &state{config: config.Default()}
	d.current.Store(before)
	d.success.Set(1)
	for range 2 {
		err := d.reload(t.Context())
		if _, ok := errors.AsType[*panics.Error](err); !ok {
			t.Fatalf("a reload that panics: %v", err)
		}
	}
	var metric dto.Metric
	if err := d.success.Write(&metric); err != nil || metric.GetGauge().GetValue() != 0 {
		t.Errorf("success is %v, %v", &metric, err)
	}
	if d.current.Load() != before {
		t.Error("another configuration is in force")
	}
	if got := strings.Count(log.String(), "the previous one stays in force"); got != 2 || !strings.Contains(log.String(), "daemon.(*daemon).build") {
		t.Errorf("the log has %d lines and no stack:\n%s", got, &log)
	}
}
