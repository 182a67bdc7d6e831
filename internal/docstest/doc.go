// Package docstest compares the documents with the code: flags, endpoints, metrics,
// links, imports, commands, make targets, and the queries and YAML that readers
// copy. It has no code of its own.
//
// Queries and the scrape configuration are judged by promtool, from PATH or the
// environment variable PROMTOOL. Where it is missing those tests are skipped
// with a line that begins with SKIP-PROMTOOL.
package docstest
