// Package examplestest tests what users copy: the example configuration, the
// rules, the dashboards, the systemd units and the Dockerfile. It has no code of
// its own.
//
// Tools do the judging, and where one is missing its tests are skipped with a
// line that begins with SKIP- and its name: promtool, from PATH or the
// environment variable PROMTOOL, systemd-analyze, and for the test that runs every
// query beside a real load prometheus, nginx and nft.
package examplestest
