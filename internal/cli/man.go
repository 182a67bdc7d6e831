package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// manPage returns the manual page, as man(7) has it: kingpin's template prints the help
// of a command as roff, in which a line may begin with a macro.
func manPage(model *kingpin.ApplicationModel) string {
	var b strings.Builder
	b.WriteString(`.TH PORT_EXPORTER 1 "" port_exporter "User Commands"
.SH NAME
port_exporter \- Prometheus exporter for the ports and sockets of a host
.SH SYNOPSIS
.B port_exporter
.RI [ FLAGS ]
`)
	commands := manCommands(model)
	for _, c := range commands {
		fmt.Fprintf(&b, ".br\n.B port_exporter %s\n.RI [ FLAGS ]%s\n", roff(c.Name), manArguments(c))
	}
	b.WriteString(`.SH DESCRIPTION
Without a command it serves metrics for Prometheus.
A command looks at the host once and ends.
A flag of a command stands behind it; the others may stand anywhere.
A flag and its value are joined by = or a space; \-\-no\-FLAG negates a boolean flag.
.SH FLAGS
`)
	manFlags(&b, model.Flags)
	for _, c := range commands {
		fmt.Fprintf(&b, ".SH PORT_EXPORTER %s\n%s\n", strings.ToUpper(roff(c.Name)), roff(c.Help))
		for _, a := range c.Args {
			fmt.Fprintf(&b, ".TP\n.I %s\n%s\n", roff(strings.ToUpper(a.Name)), roff(a.Help))
		}
		manFlags(&b, c.Flags)
	}
	b.WriteString(`.SH EXIT STATUS
Of a command: 0; 1 if there is a finding; 2 if it could not do its work; 3, of listeners, if a verdict is missing because an owner or a socket could not be read.
.SH SIGNALS
SIGHUP reads the configuration again.
SIGTERM and SIGINT end the program after the scrapes in flight.
.SH SEE ALSO
.BR ss (8),
https://github.com/port\-exporter/port_exporter
`)
	return b.String()
}

// manCommands returns the commands, without the one that is the default.
func manCommands(model *kingpin.ApplicationModel) []*kingpin.CmdModel {
	other := func(c *kingpin.CmdModel) bool { return c.Hidden || c.Name == commandServe || c.Name == "help" }
	return slices.DeleteFunc(slices.Clone(model.Commands), other)
}

func manArguments(c *kingpin.CmdModel) string {
	var text strings.Builder
	for _, a := range c.Args {
		text.WriteString("\n.I " + roff(strings.ToUpper(a.Name)) + " ...")
	}
	return text.String()
}

func manFlags(b *strings.Builder, flags []*kingpin.FlagModel) {
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		b.WriteString(".TP\n.B ")
		if f.Short != 0 {
			b.WriteString(roff("-"+string(f.Short)) + ", ")
		}
		b.WriteString(roff("--" + f.Name))
		if fallback := strings.Join(f.Default, ", "); fallback != "" && !f.IsBoolFlag() {
			b.WriteString("=" + roff(fallback))
		}
		b.WriteString("\n" + roff(f.Help) + "\n")
	}
}

// roff escapes a text for man(7), within a line or as a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
