package policy

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// idForm is a UUID, with the separators that systemd makes of its dashes too, or
// twelve and more hexadecimal digits. An escaped dash comes first, so that its
// 2d is taken for no digits.
var idForm = regexp.MustCompile(`(?i)\\\\x2d|[0-9a-f]{8}(?:(?:-|_|\\\\x2d)[0-9a-f]{4}){3}(?:-|_|\\\\x2d)[0-9a-f]{12}|[0-9a-f]{12,}`)

// foldIDs makes a pattern of a name that holds ids: each id, whole, becomes *. A
// name that is nothing but an id stays: its pattern would match every name.
func foldIDs(pattern string) string {
	var b strings.Builder
	done := 0
	for _, at := range idForm.FindAllStringIndex(pattern, -1) {
		if pattern[at[0]] == '\\' || inWord(pattern, at[0], at[1]) {
			continue
		}
		b.WriteString(pattern[done:at[0]])
		b.WriteByte('*')
		done = at[1]
	}
	b.WriteString(pattern[done:])
	if b.String() == "*" {
		return pattern
	}
	return b.String()
}

// inWord reports whether letters or digits go on before or after a part.
func inWord(text string, first, end int) bool {
	before, after := text[:first], text[end:]
	return !strings.HasSuffix(before, `\\x2d`) && before != "" && isWord(before[len(before)-1]) ||
		after != "" && isWord(after[0])
}

func isWord(c byte) bool {
	return c >= utf8.RuneSelf || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

var podOfContainer = regexp.MustCompile(`^pod([0-9a-f-]{32,36}$|[^/]+/)`)

// foldContainer makes a pattern of a container's name: docker-0123456789ab, or
// that after pod<uid>/, is another one after the next deployment.
func foldContainer(pattern string) string {
	if m := podOfContainer.FindString(pattern); m != "" {
		slash := m[len(strings.TrimSuffix(m, "/")):]
		pattern = "pod*" + slash + pattern[len(m):]
	}
	return foldIDs(pattern)
}

// podSuffixes are what Kubernetes adds to the name of a pod: of a Deployment the hash of its
// ReplicaSet and five characters, of others these or, of a StatefulSet, a number. The
// characters are those of k8s.io/apimachinery/pkg/util/rand.
var podSuffixes = regexp.MustCompile(`(-[` + podCharacters + `]{6,10})?-[` + podCharacters + `]{5}$|-[0-9]+$`)

const podCharacters = "bcdfghjklmnpqrstvwxz2456789"

// foldPod makes a pattern of the name of a pod.
func foldPod(pattern string) string { return podSuffixes.ReplaceAllString(pattern, "-*") }

// passingUnits are forms of units that live no longer than a login or a command:
// ssh@3-<addresses>.service of a socket with Accept=yes, run-u12.service,
// run-p12-i34.service, session-7.scope, session-c1.scope of a greeter,
// app-editor-4711.scope, dbus-:1.23-org.example@0.service.
var passingUnits = []struct {
	form    *regexp.Regexp
	pattern string
}{
	{regexp.MustCompile(`^([^@]+@)[0-9]+-(.*:[0-9]+-.*:[0-9]+|[0-9]+-[0-9]+)(\.service)$`), "$1*$3"},
	{regexp.MustCompile(`^run-(u[0-9]+|r[0-9a-f]{12,}|p[0-9]+-i[0-9]+)\.`), "run-*."},
	{regexp.MustCompile(`^session-c?[0-9]+(\.scope)$`), "session-*$1"},
	{regexp.MustCompile(`^dbus-:1\.[0-9]+-(.*)@[0-9]+(\.service)$`), "dbus-:*-$1@*$2"},
	{regexp.MustCompile(`-[0-9]+(\.scope)$`), "-*$1"},
}

// foldUnit makes a pattern of a unit whose name another start changes. Of a unit
// of a user's manager, each part is a name of its own.
func foldUnit(pattern string) string {
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		part = foldIDs(part)
		for _, unit := range passingUnits {
			part = unit.form.ReplaceAllString(part, unit.pattern)
		}
		parts[i] = part
	}
	return strings.Join(parts, "/")
}
