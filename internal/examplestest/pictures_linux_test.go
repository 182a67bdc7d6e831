package examplestest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

var (
	pictures = flag.String("pictures", "", "a directory that the test of pictures writes to; without it there are none")
	hold     = flag.Duration("hold", 10*time.Minute, "how long the load of the pictures lasts")
)

// TestPicturesInNamespace lets the load grow slowly and takes a picture of each
// dashboard, drawn by examples/dashboards/preview.
func TestPicturesInNamespace(t *testing.T) {
	if *pictures == "" {
		t.Skip("SKIP-PICTURES: takes pictures only when asked to, with -pictures")
	}
	chromium, dir := porttest.Program(t, "SKIP-CHROMIUM", "chromium", "chromium-browser", "google-chrome"), porttest.OpenDir(t)
	startMonitoring(t, dir, hold.Minutes()/3)
	startPreview(t, dir)
	time.Sleep(*hold)
	for _, d := range readDashboards(t) {
		instance := "web"
		switch d.UID {
		case "port-exporter-limits":
			instance = "web|host" // which has the limits of the whole machine
		case "port-exporter-fleet":
			instance = ""
		}
		picture := filepath.Join(*pictures, d.name+".png")
		if err := os.RemoveAll(picture); err != nil {
			t.Fatal(err)
		}
		page := fmt.Sprintf("http://%s/%s?range=%s&instance=%s", previewAddress, d.name, *hold, instance)
		output(t, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
			"--user-data-dir="+t.TempDir(), "--window-size=1456,"+strconv.Itoa(140+38*d.height()),
			"--screenshot="+picture, page)
		if _, err := os.Stat(picture); err != nil { // of which chromium says nothing
			t.Errorf("no picture: %v", err)
		}
	}
}

// height is how high a dashboard is, with its collapsed rows open.
func (d dashboard) height() int {
	end := 0
	for _, p := range append(d.panels(), d.Panels...) {
		end = max(end, p.GridPos.Y+p.GridPos.H)
	}
	return end
}
