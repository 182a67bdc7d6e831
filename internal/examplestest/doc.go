// Package examplestest tests what users copy: the example configuration, the
// rules, the dashboards, the systemd units and the Dockerfile. It has no code of
// its own.
//
// Two tools do the judging, and where one is missing its tests are skipped with
// a line that begins with SKIP-PROMTOOL or SKIP-SYSTEMD: promtool, from PATH or
// the environment variable PROMTOOL, and systemd-analyze.
package examplestest
