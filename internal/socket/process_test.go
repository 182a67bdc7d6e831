package socket_test

import (
	"testing"

	"github.com/port-exporter/port_exporter/internal/socket"
)

func TestProcessName(t *testing.T) {
	for _, tt := range [][3]string{
		{"", "", "?"},
		{"kthreadd", "", "kthreadd"},
		{"", "/opt/hidden", "hidden"},
		{"exe", "/", "/"},
		// comm is the beginning of the base name.
		{"nginx", "/usr/sbin/nginx", "nginx"},
		{"python3", "/usr/bin/python3.12", "python3"},
		{"nc", "/usr/bin/nc.openbsd", "nc"},
		{"port_exporter_l", "/opt/port_exporter_long", "port_exporter_long"},
		{"exactly15letter", "/opt/exactly15letter", "exactly15letter"},
		// A name that the process gave itself.
		{"port_exporter_l", "/opt/other", "other"},
		{"worker: 17 jobs", "/usr/sbin/exim4", "exim4"},
		{"nginx", "/tmp/intruder", "intruder"},
		{"3", "/usr/bin/tool", "tool"}, // fexecve(3)
		{"runc:[2:INIT]", "/memfd:runc_cloned:/proc/self/exe", "memfd:runc_cloned:/proc/self/exe"},
		// What runs the programs of others.
		{"fail2ban-server", "/usr/bin/python3.12", "fail2ban-server"},
		{"httpd", "/bin/busybox", "httpd"},
		{"sh", "/usr/bin/dash", "sh"},
		{"port_exporter", "/usr/bin/qemu-aarch64-static", "port_exporter"},
		{"MainThread", "/usr/bin/node", "node"},
		{"node-MainThread", "/usr/bin/node", "node"},
		{"gunicorn: maste", "/usr/bin/python3.12", "python3.12"},
		{"puma 6.4 (tcp:/", "/usr/bin/ruby3.1", "ruby3.1"},
		{"job-17", "/usr/bin/perl", "perl"},
		{"17", "/usr/bin/perl", "perl"},
		{"new\nline", "/usr/bin/perl", "perl"},
	} {
		if got := socket.ProcessName(tt[0], tt[1]); got != tt[2] {
			t.Errorf("ProcessName(%q, %q) = %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestIsInterpreter(t *testing.T) {
	for executable, want := range map[string]bool{
		"": false, "/usr/sbin/nginx": false, "/opt/javascriptd": false, "/usr/bin/qemu-system-x86_64": false,
		"/usr/bin/python": true, "/usr/bin/python3.12": true, "/usr/lib/jvm/bin/java": true, "/usr/sbin/php-fpm8.2": true,
		"/usr/bin/qemu-aarch64-static": true, "/bin/busybox": true, "C:/python/python": true,
		`C:\Program Files\Python312\python.exe`: true, `C:\Windows\System32\WindowsPowerShell\v1.0\PowerShell.EXE`: true,
		`D:\node\node.exe`: true, "javaw.exe": true, `C:\python\nginx.exe`: false, ".exe": false, "/srv/python.exe/nginx": false,
	} {
		if got := socket.IsInterpreter(executable); got != want {
			t.Errorf("%q: got %t", executable, got)
		}
	}
}

func TestInvokedName(t *testing.T) {
	for _, tt := range []struct {
		comm, executable string
		arguments        []string
		want             string
	}{
		{"redis-server", "/usr/bin/redis-check-rdb", []string{"/usr/bin/redis-server 127.0.0.1:6379"}, "redis-server"},
		{"redis-server", "/usr/bin/redis-check-rdb", nil, "redis-check-rdb"},
		{"a-server-with-a", "/usr/bin/multi", []string{"/usr/sbin/a-server-with-a-long-name"}, "a-server-with-a-long-name"},
		{"worker", "/usr/sbin/nginx", []string{"nginx: worker process"}, "nginx"},
		{"job 17", "/usr/sbin/spamd", []string{"job 17 of 99"}, "spamd"},
		{"MainThread", "/usr/bin/program", []string{"MainThread"}, "program"},
		{"job", "/usr/bin/perl", []string{"job 17"}, "job"},
		// A number in the name of a program of an interpreter: of its script, or a state.
		{"fail2ban-server", "/usr/bin/python3.12", []string{"/usr/bin/python3", "/usr/bin/fail2ban-server", "-f"}, "fail2ban-server"},
		{"a-script2-with-", "/usr/bin/python3.12", []string{"/usr/bin/python3", "-u", "./a-script2-with-a-number"}, "a-script2-with-"},
		{"job17", "/usr/bin/python3.12", []string{"/usr/bin/python3", "/opt/app.py"}, "python3"},
		{"job17", "/usr/bin/python3.12", []string{"python", "/opt/job1"}, "python"},
		{"job17", "/usr/bin/python3.12", nil, "python3.12"},
		{"job17", "/usr/bin/perl", []string{"job17"}, "perl"},
		{"job 17", "/usr/bin/python3.12", []string{"python3", "app.py"}, "python3"},
		{"tool2", "/usr/bin/busybox", []string{"tool2"}, "tool2"},
		{"game2.exe", "/usr/bin/wine64-preloader", []string{`C:\games\game2.exe`}, "game2.exe"},
		{"app2", "/usr/bin/qemu-aarch64-static", []string{"/usr/bin/qemu-aarch64-static", "/opt/app2"}, "app2"},
	} {
		if got := socket.InvokedName(tt.comm, tt.executable, tt.arguments); got != tt.want {
			t.Errorf("InvokedName(%q, %q, %q) = %q, want %q", tt.comm, tt.executable, tt.arguments, got, tt.want)
		}
	}
}
