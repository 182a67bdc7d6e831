// Command port_exporter exports to Prometheus what the ports and sockets of a host
// are doing, and whether they can be reached.
package main

import "github.com/port-exporter/port_exporter/internal/cli"

func main() { cli.Main() }
