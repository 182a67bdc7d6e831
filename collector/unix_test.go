package collector

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// unixListener is a unix listener with a queue.
func unixListener(path string, uid uint32, length, limit uint32) socket.Listener {
	l := socket.NewUnix(socket.UnixName{Path: path, Abstract: strings.HasPrefix(path, "@")}, socket.Member{Inode: uint64(len(path)), UID: uid})
	l.Known |= socket.KnowsUID
	l.SetQueue(socket.AcceptQueue{Length: length, Limit: limit})
	return l
}

// tableOf is a table of unix listeners.
func tableOf(listeners ...socket.Listener) socket.PortlessTable {
	return socket.PortlessTable{Listeners: socket.FoldPortless(listeners), Unread: map[socket.Protocol]int{socket.Unix: 0}}
}

// unixTable is that of a web server: a pool whose queue is full, two sockets of
// shims, one of them full, and names of strangers.
func unixTable() socket.PortlessTable {
	return tableOf(
		unixListener("/run/php/php8.2-fpm.sock", 0, 512, 511),
		unixListener("/run/containerd/s/0f0c52e6d1b36f0c", 0, 0, 4096),
		unixListener("/run/containerd/s/1f0c52e6d1b36f0c", 0, 2, 1),
		unixListener("/tmp/two\nlines\xff", 1000, 0, 5),
		unixListener("@/tmp/.X11-unix/X0", 1000, 0, 4096),
	)
}

// unixOwners has the owners of unix listeners by a part of their path.
type unixOwners map[string]socket.Owner

func (o unixOwners) Owners(_ context.Context, listeners []socket.Listener) owner.Result {
	var r owner.Result
	for _, l := range listeners {
		owned := socket.Owned{Listener: l}
		for part, who := range o {
			if strings.Contains(l.Unix.Path, part) {
				owned.Owner = who
			}
		}
		r.Owned = append(r.Owned, owned)
	}
	return r
}

// unixOptions are those of a host with these unix listeners, whose owners are unknown.
func unixOptions(table socket.PortlessTable, err error) Options {
	o := options(porttest.Sockets{})
	o.UnixOwners = unixOwners{}
	o.Unix = func(context.Context) (socket.PortlessTable, error) { return table, err }
	return o
}

func TestUnixListeners(t *testing.T) {
	none := socket.PortlessTable{}
	for name, tt := range map[string]struct {
		table   socket.PortlessTable
		err     error
		success string
		there   bool
	}{
		"not reported here": {none, nil, "1", false},
		"an error":          {none, fs.ErrPermission, "0", false},
		"none":              {tableOf(), nil, "1", true},
	} {
		got := exposition(t, t.Context(), unixOptions(tt.table, tt.err), Filter{})
		if !strings.Contains(got, `port_scrape_collector_success{collector="unix"} `+tt.success+"\n") ||
			strings.Contains(got, `port_unix_listeners{kind="abstract",netns=""} 0`) != tt.there {
			t.Errorf("%s:\n%s", name, got)
		}
	}
	if got := exposition(t, t.Context(), options(porttest.Sockets{}), Filter{}); strings.Contains(got, "port_unix_") || strings.Contains(got, `collector="unix"`) {
		t.Errorf("of a system without them:\n%s", got)
	}
}

// Names that are alike in a label are one series; what is beyond the limit is counted,
// and no user pushes out what root has.
func TestManyUnixListeners(t *testing.T) {
	var all []socket.Listener
	for i := range 500 {
		all = append(all, unixListener(fmt.Sprintf("/a/service%d", i), 1000, 0, 1))
	}
	all = append(all, unixListener("/run/docker.sock", 0, 0, 1), unixListener("/x/\x01", 33, 0, 1), unixListener(`/x/\x01`, 33, 0, 1))
	table := tableOf(all...)
	table.Unread[socket.Unix] = 7
	o := unixOptions(table, nil)
	o.Limits.Listeners = 3
	o.UnixOwners = unixOwners{"docker": {Process: "dockerd", User: "root", Unit: "docker.service"}}
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"unix"}})
	for _, want := range []string{
		`port_unix_listener_info{container="",kind="path",netns="",path="/run/docker.sock",process="dockerd",unit="docker.service",user="root"} 1`,
		`port_unix_listener_accept_queue_limit{kind="path",netns="",path="/x/\\x01"} 2`,
		`port_unix_listener_accept_queue_limit{kind="path",netns="",path="/a/service0"} 1`,
		`port_unix_listeners{kind="path",netns=""} 503`,
		`port_folded_items{metric="port_unix_listener_info"} 506`,
		`port_listener_sockets_unread{netns="",protocol="unix"} 7`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("lacks %s in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "port_unix_listener_info{"); n != 3 {
		t.Errorf("%d series", n)
	}
}

// As many containers as there are may have a socket of one path.
func TestManyOwnersOfUnixPath(t *testing.T) {
	owners, all := unixOwners{}, []socket.Listener{}
	for i := range 100 {
		id := fmt.Sprintf("%012x", i)
		owners[id] = socket.Owner{Process: "app", Container: "docker-" + id}
		all = append(all, unixListener("/run/app/"+id, 0, 0, 1))
	}
	o := unixOptions(tableOf(all...), nil)
	o.UnixOwners = owners
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"unix"}})
	if n := strings.Count(got, "port_unix_listener_info{"); n != 16 || !strings.Contains(got, `port_unix_listener_accept_queue_limit{kind="path",netns="",path="/run/app/*"} 100`+"\n") {
		t.Errorf("%d series in\n%s", n, got)
	}
}
