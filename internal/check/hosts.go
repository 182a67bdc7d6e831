package check

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strings"
)

// hostsFile is where package net looks names up first.
const hostsFile = "/etc/hosts"

// maxHosts bounds how much of it is read, in bytes.
const maxHosts = 1 << 20

// inHostsFile reports whether /etc/hosts has a name.
func inHostsFile(name string) bool {
	file, err := os.Open(hostsFile)
	if err != nil {
		return false
	}
	defer file.Close()
	return hasHost(file, name)
}

// hasHost reports whether a file in the form of hosts(5) has a name.
func hasHost(file io.Reader, name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	lines := bufio.NewScanner(io.LimitReader(file, maxHosts))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(strings.ToLower(line))
		if len(fields) > 1 && slices.Contains(fields[1:], name) {
			return true
		}
	}
	return false
}
