package check

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
)

// resolvConf has the name servers.
const resolvConf = "/etc/resolv.conf"

// nameServers returns the name servers of /etc/resolv.conf, none if there is no such
// file; nil if they are unknown.
func nameServers() *[]string {
	file, err := os.Open(resolvConf)
	if errors.Is(err, fs.ErrNotExist) {
		return &[]string{}
	}
	if err != nil {
		return nil
	}
	defer file.Close()
	servers := parseNameServers(file)
	return &servers
}

// maxNameServers is how many name servers package net and the C library take: MAXNS of
// resolv.conf(5).
const maxNameServers = 3

// parseNameServers reads a file in the form of resolv.conf(5), as package net does.
func parseNameServers(file io.Reader) (servers []string) {
	lines := bufio.NewScanner(io.LimitReader(file, maxHosts))
	for lines.Scan() && len(servers) < maxNameServers {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if _, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, net.JoinHostPort(fields[1], "53"))
		}
	}
	return servers
}
