package cli

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestDocument writes docs/cli.md: every command and every flag, as --help has them.
func TestDocument(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIP-LINUX: the flag --web.systemd-socket exists only there")
	}
	t.Setenv(procsVariable, "")
	var b strings.Builder
	b.WriteString("# Command line\n\n" +
		"<!-- Generated from internal/cli by `make generate`; do not edit. -->\n\n" +
		"`port_exporter` serves metrics; `port_exporter COMMAND` looks at the host once and ends. Exit status of the commands: 0, 1 if\n" +
		"there is a finding, 2 if the command could not do its work, and of `listeners` 3 if a verdict is missing because an owner or\n" +
		"a socket could not be read. A flag of a command stands behind it; those of `serve` may stand anywhere, and the commands\n" +
		"heed those of `config`, `path` and `source`.\n")
	model := Model()
	for _, c := range model.Commands {
		if c.Name != commandServe && c.Name != "help" {
			writeCommand(&b, c)
		}
	}
	b.WriteString("\n## port_exporter serve\n\nServe metrics (default).\n")
	writeFlags(&b, model.Flags)
	porttest.Golden(t, "../../docs/cli.md", b.String())
}

func writeCommand(b *strings.Builder, c *kingpin.CmdModel) {
	usage := c.Name + " [FLAGS]"
	for _, a := range c.Args {
		usage += " " + strings.ToUpper(a.Name)
	}
	if c.Name == commandCheck {
		usage += "..."
	}
	fmt.Fprintf(b, "\n## port_exporter %s\n\n```\nport_exporter %s\n```\n\n%s\n", c.Name, usage, c.Help)
	for _, a := range c.Args {
		fmt.Fprintf(b, "\n`%s`: %s\n", strings.ToUpper(a.Name), a.Help)
	}
	writeFlags(b, c.Flags)
}

func writeFlags(b *strings.Builder, flags []*kingpin.FlagModel) {
	b.WriteString("\n| flag | default | |\n| --- | --- | --- |\n")
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		name := "`--" + f.Name + "`"
		if f.Short != 0 {
			name += ", `-" + string(f.Short) + "`"
		}
		fallback := strings.Join(f.Default, ",")
		if fallback != "" {
			fallback = "`" + fallback + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, fallback, strings.ReplaceAll(f.Help, "|", `\|`))
	}
}
