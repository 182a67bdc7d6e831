package netns

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Identity is what a namespace is called, and what runs in it. An empty field is not
// known.
type Identity struct {
	// Name is the netns label. It is made of ids and of names that an administrator
	// chose, so that it stays the same whatever else can be read.
	Name string
	// Runtime is docker, containerd, ...; ContainerID the whole id of the oldest
	// container in the namespace, in a pod mostly its sandbox.
	Runtime, ContainerID string
	// Container, Pod and Namespace are names: that of the container, of its pod, and
	// of the Kubernetes namespace.
	Container, Pod, Namespace string
	PodUID                    string
	Unit                      string // systemd unit
	// Hidden says that no process of it may be seen: what runs in it is not known.
	Hidden bool
	// Mounted are all names that ip-netns(8) lists for it, sorted. None of several
	// namespaces with the same Name.
	Mounted []string
}

// Workload returns what runs in the namespace.
func (i *Identity) Workload() *socket.Workload {
	return &socket.Workload{
		Runtime: i.Runtime, ContainerID: i.ContainerID, Container: i.Container,
		PodUID: i.PodUID, Pod: i.Pod, Namespace: i.Namespace, Hidden: i.Hidden,
	}
}

// The names of namespaces that have none.
const (
	// HostName is that of the first process, where it is not our own.
	HostName = "host"
	// OtherName is that of all of which nothing else is known.
	OtherName = "other"
)

// runtimeMount is how runtimes name the namespaces that they mount in the place of
// ip-netns(8): containerd and podman.
var runtimeMount = regexp.MustCompile(`^(?:cni|netns)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// identify names a namespace after its mounts and the placement of its oldest process.
// Of a namespace without either, nothing is known.
func identify(place Place, p owner.Placement) Identity {
	i := Identity{Runtime: p.Runtime, ContainerID: p.ID, PodUID: p.PodUID, Unit: p.Unit, Mounted: mountedNames(place.Mounts), Hidden: len(place.PIDs) == 0}
	if p.Runtime == "lxc" || p.Runtime == "nspawn" { // their containers have names and no ids
		i.Container = p.ID
	}
	switch {
	case p.PodUID != "":
		i.Name = "pod" + p.PodUID
	case p.Container != "":
		i.Name = p.Container
	case strings.HasSuffix(p.Unit, ".service"): // a scope has a new name at each start
		i.Name = p.Unit
	case slices.Contains(place.PIDs, 1):
		i.Name = HostName
	default:
		i.Name = OtherName
	}
	chosen := func(name string) bool { return !runtimeMount.MatchString(name) }
	if at := slices.IndexFunc(i.Mounted, chosen); at >= 0 {
		i.Name = i.Mounted[at]
	}
	i.Name = exposed(i.Name)
	return i
}

// exposed returns a name as it stands in labels, and not longer than is usual for one: who
// may make cgroups names them. Namespaces whose names are exposed alike must be one, or
// they would have the same series.
func exposed(name string) string {
	const most = 256 // bytes
	name = plain.Line(name)
	if len(name) <= most {
		return name
	}
	end := most
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}

// mountedNames returns the names that ip-netns(8) lists for a namespace, sorted.
func mountedNames(mounts []Mount) (names []string) {
	for _, m := range mounts {
		dir, name := path.Split(m.Path)
		if dir == "/run/netns/" || dir == "/var/run/netns/" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Called returns those of some namespaces that a person means by a name: by their Name or
// a name from ip-netns(8); else by that of the container or pod, or namespace/pod.
func Called[T any](all []T, name string, identity func(*T) *Identity) []T {
	var found, byRuntime []T
	for i := range all {
		switch of := identity(&all[i]); {
		case name == "":
		case of.Name == name, slices.Contains(of.Mounted, name):
			found = append(found, all[i])
		case name == of.Container, name == of.Pod, name == of.Namespace+"/"+of.Pod:
			byRuntime = append(byRuntime, all[i])
		}
	}
	if len(found) > 0 {
		return found
	}
	return byRuntime
}

// settled reports whether the name will not change for as long as the namespace is
// there: its first process may still be on the way to its cgroup.
func (i *Identity) settled() bool { return i.PodUID != "" || i.ContainerID != "" }
