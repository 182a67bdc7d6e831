package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// doors are system calls by which code that got into the exporter would go on
// into other processes or into the kernel. Each is made with arguments that are
// no use, and fails.
func doors() map[string]func() syscall.Errno {
	call := func(number uintptr, args ...uintptr) func() syscall.Errno {
		return func() syscall.Errno {
			var a [6]uintptr
			copy(a[:], args)
			_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
			return errno
		}
	}
	parent := uintptr(os.Getppid())
	const nowhere = 1
	return map[string]func() syscall.Errno{
		"process_vm_readv":  call(unix.SYS_PROCESS_VM_READV, parent, nowhere, 1, nowhere, 1, 0),
		"process_vm_writev": call(unix.SYS_PROCESS_VM_WRITEV, parent, nowhere, 1, nowhere, 1, 0),
		"process_madvise":   call(unix.SYS_PROCESS_MADVISE, ^uintptr(0)),
		"ptrace":            call(unix.SYS_PTRACE, ^uintptr(0), parent),
		"pidfd_getfd":       call(unix.SYS_PIDFD_GETFD, ^uintptr(0)),
		"kcmp":              call(unix.SYS_KCMP, parent, parent, ^uintptr(0)),
		"io_uring_setup":    call(unix.SYS_IO_URING_SETUP, 1, nowhere),
		"io_uring_enter":    call(unix.SYS_IO_URING_ENTER, ^uintptr(0)),
		"io_uring_register": call(unix.SYS_IO_URING_REGISTER, ^uintptr(0)),
		"userfaultfd":       call(unix.SYS_USERFAULTFD, ^uintptr(0)),
		"keyctl":            call(unix.SYS_KEYCTL, ^uintptr(0)),
		"add_key":           call(unix.SYS_ADD_KEY, nowhere, nowhere),
		"request_key":       call(unix.SYS_REQUEST_KEY, nowhere, nowhere),
		"memfd_create":      call(unix.SYS_MEMFD_CREATE, nowhere),
		"perf_event_open":   call(unix.SYS_PERF_EVENT_OPEN, nowhere),
		"bpf":               call(unix.SYS_BPF, ^uintptr(0)),
		"vmsplice":          call(unix.SYS_VMSPLICE, ^uintptr(0)),
		"mlock":             call(unix.SYS_MLOCK, nowhere, 1),
		"shmget":            call(unix.SYS_SHMGET, nowhere, 1, 0),
		"msgget":            call(unix.SYS_MSGGET, nowhere, 0),
	}
}

// knock is the main function of a command that prints what comes of each door.
func knock() {
	for name, call := range doors() {
		fmt.Println(name, int(call()))
	}
}

// TestSandboxInNamespace runs the program with the system calls of the unit, as
// its user and with its capabilities: a scrape is whole, and no door is open. So
// it is with each drop-in but the one that opens bpf(2).
func TestSandboxInNamespace(t *testing.T) {
	program := porttest.OpenProgram(t)
	porttest.Namespace(t)
	as := syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
		AmbientCaps: []uintptr{unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH},
	}
	knocked := func(command ...string) map[string]syscall.Errno {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.SysProcAttr = &as
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", command, err)
		}
		got := map[string]syscall.Errno{}
		for line := range strings.Lines(string(out)) {
			name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
			errno, _ := strconv.Atoi(number)
			got[name] = syscall.Errno(errno)
		}
		return got
	}
	open := knocked(filepath.Join(program, "knock"))
	for _, name := range []string{"process_vm_readv", "process_vm_writev", "kcmp"} {
		if open[name] == unix.EPERM {
			t.Errorf("%s is refused without the filter: this proves nothing", name)
		}
	}
	sets := callSets{}
	const forBPF = "namespaces.conf"
	for _, dropIns := range [][]string{nil, {"unprivileged.conf"}, {"pings.conf"}, {"socket-activation.conf"}, {"namespaces-sock_diag.conf"}, {forBPF}} {
		calls := allowedCalls(t, sets, unitText(t, dropIns))
		numbers := callNumbers(t, calls)
		shut := knocked(filepath.Join(program, "with-calls"), numbers, filepath.Join(program, "knock"))
		for name := range doors() {
			wanted := name == "bpf" && slices.Contains(dropIns, forBPF)
			if open := shut[name] != unix.EPERM || slices.Contains(calls, name); open != wanted {
				t.Errorf("drop-ins %v: %s is open: %v (%v), want %v", dropIns, name, open, shut[name], wanted)
			}
		}
		stop := porttest.StartDaemonAs(t, &as, "with-calls", numbers, "port_exporter")
		var samples map[string]float64
		var wrong string
		for range 10 { // on a busy machine the first search for owners may not come to its end
			samples = porttest.Scrape(t, "port_scrape_collector_success", "port_privilege_missing", "port_source_info")
			if wrong = unexpected(samples); wrong == "" {
				break
			}
			time.Sleep(time.Second)
		}
		stop()
		if wrong != "" {
			t.Errorf("drop-ins %v: %s", dropIns, wrong)
		}
		if samples[`port_source_info{reason="",source="sock_diag"}`] != 1 || len(samples) < 7 {
			t.Errorf("drop-ins %v: not whole: %v", dropIns, samples)
		}
	}
}

// unexpected returns a series that says that something fails or is missing.
func unexpected(samples map[string]float64) string {
	for series, value := range samples {
		want := 1.0
		if strings.HasPrefix(series, "port_privilege_missing") {
			want = 0
		}
		if value != want {
			return fmt.Sprintf("%s is %v, want %v", series, value, want)
		}
	}
	return ""
}

// TestFilterIsHeld takes each group and each call out of what the unit refuses: one of
// the doors is open then, or systemd-analyze knows the group.
func TestFilterIsHeld(t *testing.T) {
	text, sets := unitText(t, nil), callSets{}
	whole := allowedCalls(t, sets, text)
	for _, line := range regexp.MustCompile(`(?m)^SystemCallFilter=~.*$`).FindAllString(text, -1) {
		for word := range strings.FieldsSeq(strings.TrimPrefix(line, "SystemCallFilter=~")) {
			loosened := strings.Replace(line, word, "", 1)
			opened := slices.DeleteFunc(allowedCalls(t, sets, strings.Replace(text, line, loosened, 1)), func(call string) bool { return slices.Contains(whole, call) })
			known := slices.Contains([]string{"@debug", "@privileged", "@resources"}, word) || slices.ContainsFunc(opened, func(call string) bool { return doors()[call] != nil })
			if !known {
				t.Errorf("nothing notices a filter without ~%s, which opens %v", word, opened)
			}
		}
	}
}

// unitText returns the text of the unit and its drop-ins.
func unitText(t *testing.T, dropIns []string) string {
	t.Helper()
	const units = "packaging/systemd/port_exporter.service"
	files := []string{units}
	for _, name := range dropIns {
		files = append(files, filepath.Join(units+".d", name))
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
		all.WriteByte('\n')
	}
	return all.String()
}

// allowedCalls returns the system calls that a unit allows. As systemd does, it
// takes the lines in their order, those of drop-ins behind.
func allowedCalls(t *testing.T, sets callSets, unit string) []string {
	t.Helper()
	allowed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(unit, -1) {
		for word := range strings.FieldsSeq(m[2]) {
			for _, call := range sets.expand(t, word) {
				allowed[call] = m[1] == ""
			}
		}
	}
	maps.DeleteFunc(allowed, func(_ string, on bool) bool { return !on })
	return slices.Sorted(maps.Keys(allowed))
}

// callSets are the calls of sets such as @system-service, of those that were asked
// for.
type callSets map[string][]string

// expand returns the calls of a set, or the one call.
func (s callSets) expand(t *testing.T, word string) []string {
	t.Helper()
	if !strings.HasPrefix(word, "@") {
		return []string{word}
	}
	if calls, known := s[word]; known {
		return calls
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIP-SYSTEMD: systemd-analyze is not in PATH")
	}
	out, err := exec.CommandContext(t.Context(), analyze, "syscall-filter", "--no-pager", word).Output()
	if err != nil {
		t.Fatalf("systemd-analyze syscall-filter %s: %v", word, err)
	}
	var calls []string
	for member := range strings.FieldsSeq(regexp.MustCompile(`(?m)^ *#.*$`).ReplaceAllString(string(out), "")) {
		if member != word {
			calls = append(calls, s.expand(t, member)...)
		}
	}
	s[word] = calls
	return calls
}

// callNumbers returns the numbers of the calls that this machine has, with commas
// between them.
func callNumbers(t *testing.T, calls []string) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Skipf("SKIP-GO: %v", err)
	}
	table := filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+runtime.GOARCH+".go")
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	for _, m := range regexp.MustCompile(`(?m)^\s*SYS_(\w+)\s*=\s*(\d+)`).FindAllStringSubmatch(string(text), -1) {
		if slices.Contains(calls, strings.ToLower(m[1])) {
			numbers = append(numbers, m[2])
		}
	}
	if len(numbers) < 150 {
		t.Fatalf("only %d system calls are known by their number", len(numbers))
	}
	return strings.Join(numbers, ",")
}
