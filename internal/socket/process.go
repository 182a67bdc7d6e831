package socket

import (
	"path"
	"slices"
	"strings"
	"unicode"
)

// ProcessName returns the name of a process that stays the same as long as it
// runs, from its comm, which the kernel cuts to 15 bytes (TASK_COMM_LEN) and which
// each thread may change, and from its executable. Where the executable is known,
// the name is
//
//   - comm, where the base name of the executable begins with it: python3 of
//     python3.12, nc of nc.openbsd; completed where it was cut;
//   - comm, where the executable runs programs that others wrote, and comm looks
//     like the name of one: fail2ban-server of python3.12, httpd of busybox;
//   - else the base name: node of MainThread, nginx of "worker: 17 jobs".
func ProcessName(comm, executable string) string {
	base := baseName(executable)
	switch {
	case comm == "" && base == "":
		return "?"
	case base == "":
		return comm
	case comm == "":
		return base
	case len(comm) == cutComm && strings.HasPrefix(base, comm):
		return base
	case strings.HasPrefix(base, comm), IsInterpreter(executable) && isProgramName(comm):
		return comm
	default:
		return base
	}
}

// InvokedName is [ProcessName] for a process whose first arguments are known, too:
// the name of the link by which it was started, redis-server of redis-check-rdb,
// if the process has kept it. What it put behind the name, its state, does not count.
//
// A name with a number is the one of an interpreter's program if an argument has it:
// fail2ban-server, but not job17, the state of a process. Then it is that of the
// interpreter, as it was started: python3 of python3.12.
func InvokedName(comm, executable string, arguments []string) string {
	command, _, _ := strings.Cut(strings.Join(arguments[:min(1, len(arguments))], ""), " ")
	name := path.Base(command)
	if IsInterpreter(executable) {
		if !NeedsArguments(comm, executable) || isProgramName(comm) && isInvoked(comm, executable, arguments) {
			return ProcessName(comm, executable)
		}
		if base := baseName(executable); command == "" || !strings.HasPrefix(base, name) {
			return base
		}
		return name
	}
	kept := name == comm || len(comm) == cutComm && strings.HasPrefix(name, comm)
	if kept && isProgramName(name) {
		return name
	}
	return ProcessName(comm, executable)
}

// NeedsArguments reports whether the name of a process may rest on its arguments.
func NeedsArguments(comm, executable string) bool {
	return ProcessName(comm, executable) != comm || IsChosen(comm, executable) && strings.ContainsFunc(comm, unicode.IsDigit)
}

// IsChosen reports whether comm is the name of a process, but not that of its
// executable: of the program of an interpreter, which may change it.
func IsChosen(comm, executable string) bool {
	return IsInterpreter(executable) && isProgramName(comm) && !strings.HasPrefix(baseName(executable), comm)
}

// isInvoked reports whether comm is the name of a file among the arguments of an
// interpreter. The first one is, where one executable is many programs; else the
// process may have written its state there.
func isInvoked(comm, executable string, arguments []string) bool {
	if !isManyPrograms(executable) {
		arguments = arguments[min(1, len(arguments)):]
	}
	return slices.ContainsFunc(arguments, func(argument string) bool {
		name := argument[strings.LastIndexAny(argument, `/\`)+1:]
		return name == comm || len(comm) == cutComm && strings.HasPrefix(name, comm)
	})
}

// isManyPrograms reports whether the first argument of an executable is the name of
// the program that it runs: it has the program in it, or emulates a machine.
func isManyPrograms(executable string) bool {
	base := baseName(executable)
	for _, name := range []string{"busybox", "toybox", "wine", "qemu-", "FEXInterpreter", "box", "rosetta"} {
		if strings.HasPrefix(base, name) {
			return true
		}
	}
	return false
}

// cutComm is how many bytes the kernel keeps of a name.
const cutComm = 15

// baseName returns the name of an executable, or nothing. One in memory
// (memfd_create(2)) has its whole name, in which slashes are none of a path.
func baseName(executable string) string {
	if name, ok := strings.CutPrefix(executable, "/memfd:"); ok {
		return "memfd:" + name
	}
	if executable == "" {
		return ""
	}
	return path.Base(executable)
}

// windowsProgram returns the name of a program of Windows, in lower case and without
// its ending; nothing for another executable.
func windowsProgram(executable string) string {
	name, found := strings.CutSuffix(strings.ToLower(executable), ".exe")
	if !found {
		return ""
	}
	return name[strings.LastIndexAny(name, `/\`)+1:]
}

// isProgramName reports whether comm may be the name of a script, which the kernel
// takes from its file, and not a state that a process puts into its name, or the
// name of a thread: no blanks, colons, brackets or slashes, and no number that
// stands alone (worker-17).
func isProgramName(comm string) bool {
	if strings.HasSuffix(comm, "MainThread") { // node, node-MainThread
		return false
	}
	for i := range len(comm) {
		c := comm[i]
		switch {
		case isLetter(c):
		case c == '.' || c == '_' || c == '-' || c == '+':
		case isDigit(c) && i > 0 && (isLetter(comm[i-1]) || isDigit(comm[i-1])):
		default:
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// IsInterpreter reports whether an executable, by its base name, runs programs
// that are in other files: interpreters, virtual machines and emulators of
// languages, and binaries that are many programs. Windows has them with an ending,
// in either case: python.exe.
func IsInterpreter(executable string) bool {
	base := baseName(executable)
	if program := windowsProgram(executable); program != "" {
		base = program
	}
	switch strings.TrimRight(base, "0123456789.-") {
	case "python", "pypy", "java", "node", "nodejs", "deno", "bun", "ruby", "perl", "php", "php-fpm", "php-cgi", "lua", "luajit",
		"beam.smp", "mono", "mono-sgen", "dotnet", "tclsh", "guile", "Rscript", "R", "pwsh", "sh", "bash", "dash", "zsh", "ksh",
		"busybox", "toybox", "wine", "wine-preloader", "FEXInterpreter", "box", "rosetta",
		"pythonw", "javaw", "powershell", "wscript", "cscript", "cmd", "r", "rscript":
		return true
	default:
		return strings.HasPrefix(base, "qemu-") && !strings.HasPrefix(base, "qemu-system-") && !strings.HasPrefix(base, "qemu-nbd") ||
			strings.HasPrefix(base, "wine64")
	}
}
