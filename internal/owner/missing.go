package owner

// What reading the processes of other users requires. The last three are no
// capabilities: they say what makes these useless.
const (
	// CapSysPtrace may read the links in /proc/<pid>/fd, and CapDacReadSearch opens
	// the directory (proc_pid_fd(5)).
	CapSysPtrace     = "CAP_SYS_PTRACE"
	CapDacReadSearch = "CAP_DAC_READ_SEARCH"
	// PIDNamespace: /proc shows only the processes of a pid namespace of its own.
	PIDNamespace = "pid_namespace"
	// UserNamespace: outside of it, capabilities do not count.
	UserNamespace = "user_namespace"
	// SecurityModule: one denies it in spite of the capabilities.
	SecurityModule = "security_module"
)

// CapNetAdmin shows the filters of packet sockets (sock_diag_put_filterinfo in
// net/core/sock_diag.c). It is not about owners.
const CapNetAdmin = "CAP_NET_ADMIN"

// Privileges returns all that may be in [Result.Missing].
func Privileges() []string {
	return []string{CapSysPtrace, CapDacReadSearch, PIDNamespace, UserNamespace, SecurityModule}
}
