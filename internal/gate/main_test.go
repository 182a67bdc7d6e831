package gate

import (
	"os"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

func TestMain(m *testing.M) { os.Exit(porttest.RunWaiting(m)) }
