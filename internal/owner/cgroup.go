package owner

import (
	"regexp"
	"strings"
)

// unitAndContainer reads a cgroup path as systemd and the container runtimes
// write it: /system.slice/nginx.service,
// /system.slice/docker-<id>.scope, /kubepods/burstable/pod<uid>/<id>. Either
// may be empty. The innermost unit counts. A unit below a user's manager, which
// the user may name at will, stands behind it: user@1000.service/nginx.service.
func unitAndContainer(path string) (unit, container string) {
	var pod, manager string
	for part := range strings.SplitSeq(path, "/") {
		if isUnit(part) {
			if isUserManager(unit) {
				manager = unit + "/"
			}
			unit = unescapeUnit(part)
		}
		if uid := podUID(part); uid != "" {
			pod = "pod" + uid
		}
	}
	unit = manager + unit
	container = containerName(path)
	if pod != "" && container != "" {
		container = pod + "/" + container
	} else if pod != "" {
		container = pod
	}
	return unit, container
}

// isUserManager reports whether a unit is the systemd of a user.
func isUserManager(unit string) bool {
	return strings.HasPrefix(unit, "user@") && strings.HasSuffix(unit, ".service")
}

// isUnit reports whether a path component is a unit that owns processes:
// slices only group others (systemd.unit(5)).
func isUnit(part string) bool {
	for _, suffix := range []string{".service", ".socket", ".scope", ".mount", ".swap"} {
		if strings.HasSuffix(part, suffix) && len(part) > len(suffix) {
			return true
		}
	}
	return false
}

// unescapeUnit takes away the underscore that systemd puts before names that
// could be taken for an attribute file of the kernel (cg_escape in systemd).
func unescapeUnit(part string) string { return strings.TrimPrefix(part, "_") }

const hex64 = `([0-9a-f]{12})[0-9a-f]{52}`

// containerForm is how a runtime writes a container into a cgroup path.
type containerForm struct {
	pattern *regexp.Regexp
	runtime string
}

// containerForms are tried in order. The last one is for a bare id, which
// Kubernetes writes below the pod whatever the runtime is.
func containerForms() []containerForm {
	return []containerForm{
		{regexp.MustCompile(`/docker[-/]` + hex64 + `(\.scope)?(/|$)`), "docker"},
		{regexp.MustCompile(`/libpod(?:-conmon)?-` + hex64 + `(\.scope)?(/|$)`), "podman"},
		{regexp.MustCompile(`/libpod_parent/libpod-` + hex64 + `(/|$)`), "podman"},
		{regexp.MustCompile(`[/:]cri-containerd[-:]` + hex64 + `(\.scope)?(/|$)`), "containerd"},
		{regexp.MustCompile(`/crio-(?:conmon-)?` + hex64 + `(\.scope)?(/|$)`), "crio"},
		{regexp.MustCompile(`/nerdctl-` + hex64 + `(\.scope)?(/|$)`), "containerd"},
		{regexp.MustCompile(`/lxc(?:\.payload)?[./]([^/]+)(/|$)`), "lxc"},
		{regexp.MustCompile(`/machine\.slice/machine-([^/]+)\.scope(/|$)`), "nspawn"},
		{regexp.MustCompile(`/` + hex64 + `(/|$)`), "container"},
	}
}

var forms = containerForms()

func containerName(path string) string {
	for _, form := range forms {
		if m := form.pattern.FindStringSubmatch(path); m != nil {
			return form.runtime + "-" + m[1]
		}
	}
	return ""
}

// podUID returns the uid in "pod<uid>" (the cgroupfs driver) or in
// "kubepods-burstable-pod<uid>.slice" (the systemd driver, which writes the
// dashes of the uid as underscores).
func podUID(part string) string {
	name, slice := strings.CutSuffix(part, ".slice")
	at := strings.LastIndex(name, "pod")
	if at < 0 || slice != strings.HasPrefix(name, "kubepods") || !slice && at != 0 {
		return ""
	}
	uid := strings.ReplaceAll(name[at+len("pod"):], "_", "-")
	if !podUIDPattern.MatchString(uid) {
		return ""
	}
	return uid
}

// podUIDPattern is a UUID, or the bare digits that static pods have.
var podUIDPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^[0-9a-f]{32}$`)

// cgroupPath returns the path of a process in /proc/<pid>/cgroup
// (cgroups(7)): that of cgroup v2, unless systemd's own v1 hierarchy, on a
// hybrid or v1 host, says more.
func cgroupPath(text string) string {
	var unified, systemd string
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(fields) != 3:
		case fields[0] == "0" && fields[1] == "":
			unified = fields[2]
		case fields[1] == "name=systemd":
			systemd = fields[2]
		case systemd == "" && containerName(fields[2]) != "":
			systemd = fields[2] // a runtime without systemd, on v1
		}
	}
	if len(unified) > 1 {
		return unified
	}
	if systemd != "" {
		return systemd
	}
	return unified
}

// cgroupMount returns where cgroup v2 is mounted, from /proc/self/mountinfo
// (proc_pid_mountinfo(5)): the mount point of the first line of type cgroup2.
func cgroupMount(mountinfo string) string {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			return unescapeOctal(fields[4])
		}
	}
	return ""
}

// unescapeOctal undoes what the kernel does to blanks in mount points: \040.
func unescapeOctal(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
