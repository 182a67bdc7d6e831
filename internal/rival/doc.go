// Package rival probes the same targets with blackbox_exporter v0.28.0 itself,
// built from its module, and with port_exporter, and compares the measurements.
// It has no code but tests. What differs, and why, is a list in
// docs/migrating-from-blackbox_exporter.md, which the test reads.
package rival
