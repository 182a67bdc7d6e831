package owner

import (
	"slices"
	"strings"
)

// Hints returns what would let more processes be read, one line for each cause.
// In a user namespace more capabilities are of no use.
func Hints(missing []string) []string {
	var lines, capabilities []string
	for _, privilege := range missing {
		switch privilege {
		case PIDNamespace:
			lines = append(lines, "the processes of the host are in another PID namespace: run the container with --pid host (Kubernetes: hostPID: true)")
		case UserNamespace:
			lines = append(lines, "capabilities do not count outside of this user namespace: run it in that of the host, as root (containers: not rootless, --userns host; systemd: PrivateUsers=no)")
		case SecurityModule:
			lines = append(lines, "a security module denies it: run the container with --security-opt apparmor=unconfined, or label=disable where SELinux is")
		default:
			capabilities = append(capabilities, privilege)
		}
	}
	if len(capabilities) > 0 && !slices.Contains(missing, UserNamespace) {
		lines = append(lines, "run as root, or with "+list(capabilities))
	}
	return lines
}

// list returns words as a sentence has them: A, B and C.
func list(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
