// Package porttest holds what the tests of several packages share: network
// namespaces, sockets in exact states, a source of invented sockets, golden
// files, certificates, servers that others wrote. Only tests import it.
package porttest
