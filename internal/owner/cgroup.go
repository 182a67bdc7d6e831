package owner

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// unitAndContainer reads a cgroup path as systemd and the container runtimes
// write it: /system.slice/nginx.service,
// /system.slice/docker-<id>.scope, /kubepods/burstable/pod<uid>/<id>. Either
// may be empty.
//
// The container is the innermost one, behind the uid of its pod. The unit is
// that of the host: the outermost one, and none below a container, where a
// systemd of its own names units. A container's own scope is no unit: it has a
// new name after each restart. A unit below a user's manager, which the user may
// name at will, follows it: user@1000.service/nginx.service.
func unitAndContainer(path string) (unit, container string) {
	w := walkParts(path)
	if w.pod != "" && w.container != "" {
		return w.unit, w.pod + "/" + w.container
	}
	return w.unit, w.pod + w.container
}

func walkParts(path string) (w cgroupWalk) {
	w.parts = cgroupParts(path)
	for i := range w.parts {
		w.step(i)
	}
	return w
}

// Placement is what the path of a cgroup says of the processes in it.
type Placement struct {
	// Unit is the systemd unit of the host.
	Unit string
	// Container is the innermost container, docker-0123456789ab, without its pod.
	Container string
	// Runtime is who runs the container; empty where the path does not say so.
	Runtime string
	// ID is the whole id of the container, of 64 digits; its name where it has no id.
	ID string
	// PodUID is that of the Kubernetes pod.
	PodUID string
}

// PlacementOf reads the path of a cgroup.
func PlacementOf(path string) Placement {
	w := walkParts(path)
	p := Placement{Unit: w.unit, Container: w.container, PodUID: strings.TrimPrefix(w.pod, "pod")}
	p.Runtime, p.ID, _ = strings.Cut(w.container, "-")
	if p.Runtime == unknownRuntime {
		p.Runtime = ""
	}
	for _, part := range w.parts { // the innermost with these digits
		if id := anyID.FindString(part); id != "" && p.ID != "" && strings.HasPrefix(id, p.ID) {
			p.ID = id
		}
	}
	return p
}

// anyID is an id of 64 digits, whatever stands around it.
var anyID = regexp.MustCompile(`[0-9a-f]{64}`)

// unknownRuntime stands for a runtime before an id of which the path says nothing else.
const unknownRuntime = "container"

// cgroupParts returns the components of a path. <slice>:<runtime>:<id>, which a
// runtime that expects systemd writes where its driver is cgroupfs, is two. A unit
// may have colons, too: ssh@1-10.0.0.1:22-10.0.0.2:4711.service.
func cgroupParts(path string) []string {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		if m := joinedForm.FindStringSubmatch(part); m != nil {
			parts = append(parts, m[1], m[2]+"-"+m[3])
		} else if part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// cgroupWalk is what is known of a path up to some component.
type cgroupWalk struct {
	parts     []string
	unit      string
	container string
	pod       string
	family    string // the last component that says whose ids follow it
}

// step reads one component.
func (w *cgroupWalk) step(i int) {
	part := w.parts[i]
	if container := w.containerAt(i); container != "" {
		w.container, w.family = container, ""
		return
	}
	if m := podForm.FindStringSubmatch(part); m != nil {
		w.pod = "pod" + strings.ReplaceAll(m[1], "_", "-")
	}
	if _, ok := families[part]; ok {
		w.family = part
	}
	if w.container != "" || !isUnit(part) {
		return
	}
	unit := unescapeUnit(part)
	switch {
	case w.unit == "":
		w.unit = unit
	case isUserManager(w.unit) && !strings.Contains(w.unit, "/"): // else names would grow without a bound
		w.unit += "/" + unit
	}
	if m := nspawnService.FindStringSubmatch(unit); m != nil {
		w.container = "nspawn-" + unescapeName(m[1])
	}
}

// containerAt returns the container that a component begins, if it does.
func (w *cgroupWalk) containerAt(i int) string {
	part := w.parts[i]
	for _, form := range forms {
		if m := form.pattern.FindStringSubmatch(part); m != nil {
			return form.runtime + "-" + m[1]
		}
	}
	if m := otherForm.FindStringSubmatch(part); m != nil {
		return m[1] + "-" + m[2]
	}
	if m := machineForm.FindStringSubmatch(part); m != nil {
		return machineName(unescapeName(m[1]))
	}
	if m := libvirtForm.FindStringSubmatch(part); m != nil {
		return m[2] + "-" + unescapeName(m[1])
	}
	if m := nomadForm.FindStringSubmatch(part); m != nil && w.under("nomad.slice") {
		return "nomad-" + m[2] + "-" + shortID(m[1])
	}
	if part == "payload" && w.container == "" && w.unit != "" && i+1 < len(w.parts) && isSystemdRoot(w.parts[i+1]) {
		return "nspawn-" + strings.TrimSuffix(w.unit[strings.LastIndexByte(w.unit, '/')+1:], ".service")
	}
	return w.byFamily(i)
}

// byFamily returns the container of a component that is a bare id, or a bare
// name below a component that says so.
func (w *cgroupWalk) byFamily(i int) string {
	part, family := w.parts[i], families[w.family]
	switch {
	case bareID.MatchString(part):
		return cmp.Or(family.runtime, unknownRuntime) + "-" + shortID(part)
	case family.ids != nil && family.ids.MatchString(part):
		return family.runtime + "-" + shortID(part)
	case family.names && i > 0 && w.parts[i-1] == w.family:
		return family.runtime + "-" + part
	default:
		return ""
	}
}

// under reports whether a component is in the path.
func (w *cgroupWalk) under(name string) bool { return slices.Contains(w.parts, name) }

// shortID returns the first twelve digits of an id: as much as runtimes show.
func shortID(id string) string {
	id = strings.ReplaceAll(id, "-", "")
	return id[:min(12, len(id))]
}

// isSystemdRoot reports whether a component is one that systemd makes directly
// below the root of what it manages.
func isSystemdRoot(part string) bool {
	return part == "init.scope" || part == "system.slice" || part == "user.slice" || part == "machine.slice"
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

// unescapeName undoes systemd-escape(1): \x2d is a dash. What it does not
// understand stays.
func unescapeName(name string) string {
	return escapedByte.ReplaceAllStringFunc(name, func(escape string) string {
		b, err := strconv.ParseUint(escape[len(`\x`):], 16, 8)
		if err != nil {
			return escape
		}
		return string([]byte{byte(b)})
	})
}

var escapedByte = regexp.MustCompile(`\\x[0-9a-f]{2}`)

const (
	hex64 = `([0-9a-f]{12})[0-9a-f]{52}`
	uuid  = `[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}`
)

// containerForm is how a runtime writes a container into one component. What it
// captures is the short id or the name.
type containerForm struct {
	pattern *regexp.Regexp
	runtime string
}

// forms are what says by itself whose container it is. libpod-payload is podman
// in a service (Quadlet, --cgroups=split), libpod-conmon its monitor.
var forms = []containerForm{
	{regexp.MustCompile(`^docker-` + hex64 + `(?:\.scope)?$`), "docker"},
	{regexp.MustCompile(`^libpod-(?:payload-|conmon-)?` + hex64 + `(?:\.scope)?$`), "podman"},
	{regexp.MustCompile(`^(?:cri-containerd|containerd|nerdctl)-` + hex64 + `(?:\.scope)?$`), "containerd"},
	{regexp.MustCompile(`^crio-(?:conmon-)?` + hex64 + `(?:\.scope)?$`), "crio"},
	{regexp.MustCompile(`^kata[-_]` + hex64 + `(?:\.scope)?$`), "kata"},
	{regexp.MustCompile(`^docker-([0-9a-z]{12})[0-9a-z]{13}$`), "buildkit"},
	{regexp.MustCompile(`^lxc\.payload\.(.+)$`), "lxc"},
}

// family is what the components below a certain one are.
type family struct {
	runtime string
	ids     *regexp.Regexp // other ids than those of 64 digits
	names   bool           // any component directly below is a container's name
}

var anyUUID = regexp.MustCompile(`^` + uuid + `$`)

// families are the components that say whose ids, or names, follow: /docker/<id>,
// /lxc/<name>, /ecs/<task>/<task>-<n>.
var families = map[string]family{
	"docker":        {runtime: "docker"},
	"libpod_parent": {runtime: "podman"},
	"k8s.io":        {runtime: "containerd"}, // containerd's namespace of Kubernetes
	"moby":          {runtime: "docker"},     // and that of docker
	"kata_overhead": {runtime: "kata"},
	"ecs":           {runtime: "ecs", ids: regexp.MustCompile(`^[0-9a-f]{32}-[0-9]+$`)}, // the latter on Fargate
	"buildkit":      {runtime: "buildkit", ids: regexp.MustCompile(`^[0-9a-z]{25}$`)},
	"nomad":         {runtime: "nomad", ids: anyUUID},
	"mesos":         {runtime: "mesos", ids: anyUUID},
	"garden":        {runtime: "garden", ids: anyUUID},
	"firecracker":   {runtime: "firecracker", names: true},
	"lxc":           {runtime: "lxc", names: true},
	"lxc.payload":   {runtime: "lxc", names: true},
}

var (
	// bareID is an id without a word of whose it is, as Kubernetes has it below
	// the pod whatever the runtime is.
	bareID = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// podForm is pod<uid> (the cgroupfs driver), or a slice that ends so (the
	// systemd driver, which writes the dashes of the uid as underscores). Static
	// pods have 32 digits.
	podForm = regexp.MustCompile(`(?:^|-)pod(` + uuid + `|[0-9a-f]{32})(?:\.slice)?$`)
	// otherForm is a container of any other runtime: crun-<id>.scope, balena-<id>.scope.
	otherForm = regexp.MustCompile(`^([a-z][a-z0-9_.-]*)-` + hex64 + `(?:\.scope)?$`)
	// joinedForm is a slice or a pod, a runtime and an id of it, or of BuildKit.
	joinedForm = regexp.MustCompile(`^([^:]*\.slice|[^:]*pod(?:` + uuid + `|[0-9a-f]{32})|):([^:]+):([0-9a-f]{64}|[0-9a-z]{25})$`)
	// machineForm is a machine of systemd-machined.
	machineForm = regexp.MustCompile(`^machine-(.+)\.scope$`)
	// libvirtForm is one of a libvirt without it.
	libvirtForm = regexp.MustCompile(`^(?:(?:qemu|lxc|xen)-[0-9]+-)?(.+)\.libvirt-(qemu|lxc|xen)$`)
	// libvirtName is a machine as libvirt names it: the driver, a number that
	// counts starts, and the name of the virtual machine.
	libvirtName = regexp.MustCompile(`^(qemu|lxc|xen)-[0-9]+-(.+)$`)
	// nspawnService is systemd-nspawn run as a service.
	nspawnService = regexp.MustCompile(`^systemd-nspawn@(.+)\.service$`)
	// nomadForm is a task of the drivers exec and raw_exec: its allocation and name.
	nomadForm = regexp.MustCompile(`^(` + uuid + `)\.(.+)\.scope$`)
)

// machineName returns the name of a machine, behind who runs it.
func machineName(machine string) string {
	if m := libvirtName.FindStringSubmatch(machine); m != nil {
		return m[1] + "-" + m[2]
	}
	return "nspawn-" + machine
}

// isVirtualMachine reports whether a container is a virtual machine, whose process
// is one of the host's.
func isVirtualMachine(container string) bool {
	name := container[strings.LastIndexByte(container, '/')+1:]
	for _, runtime := range []string{"qemu-", "xen-", "kata-", "firecracker-"} {
		if strings.HasPrefix(name, runtime) {
			return true
		}
	}
	return false
}

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
		case systemd == "" && inContainer(fields[2]):
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

func inContainer(path string) bool {
	_, container := unitAndContainer(path)
	return container != ""
}

// cgroupMount returns where cgroup v2 is mounted, from /proc/self/mountinfo
// (proc_pid_mountinfo(5)): the first mount point of the whole hierarchy. In a cgroup
// namespace the root of its own is /, and one that the host has mounted is above it,
// at /.. or /../.. (cgroup_namespaces(7)).
func cgroupMount(mountinfo string) string {
	mount, above := "", -1
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || !strings.HasPrefix(after, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		levels := strings.Count(fields[3], "/..")
		if (fields[3] == "/" || fields[3] == strings.Repeat("/..", levels)) && levels > above {
			mount, above = unescapeOctal(fields[4]), levels
		}
	}
	return mount
}

// unescapeOctal undoes what the kernel does to blanks in mount points: \040.
func unescapeOctal(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
