package runtimestest_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/port-exporter/port_exporter/internal/cli"
)

// onHost says that the process is in a host of its own: .ci/e2e-runtimes makes it.
var onHost = flag.Bool("host", false, "the process is pid, network, mount and cgroup namespace of a host that tests may change")

// TestMain lets tests run port_exporter as a program, and lax.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"port_exporter": cli.Main, "lax": lax})
}

// lax is runc without limits of resources, which a machine without CAP_SYS_RESOURCE, or
// without the controllers, cannot set.
func lax() {
	args := os.Args[1:]
	if slices.Contains(args, "create") || slices.Contains(args, "run") {
		if err := loosen(filepath.Join(bundleOf(args), "config.json")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Fprintln(os.Stderr, syscall.Exec("/usr/sbin/runc", append([]string{"runc"}, args...), os.Environ())) //nolint:gosec // what the runtime asks for
	os.Exit(1)
}

// bundleOf returns the folder of the container in the arguments for runc.
func bundleOf(args []string) string {
	for i, arg := range args {
		if bundle, ok := strings.CutPrefix(arg, "--bundle="); ok {
			return bundle
		}
		if (arg == "--bundle" || arg == "-b") && i+1 < len(args) {
			return args[i+1]
		}
	}
	return "."
}

// loosen takes the limits out of the configuration of a container.
func loosen(file string) error {
	return edit(file, func(config map[string]any) {
		delete(config["linux"].(map[string]any), "resources")
		process := config["process"].(map[string]any)
		delete(process, "rlimits")
		delete(process, "oomScoreAdj")
	})
}

// edit changes a file of JSON.
func edit(file string, change func(map[string]any)) error {
	text, err := os.ReadFile(file) //nolint:gosec // of the bundle
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	change(config)
	if text, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
