package dial

import (
	"bytes"
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

func TestLookUp(t *testing.T) {
	both := porttest.NameServer(t, porttest.Records("192.0.2.1", "2001:db8::1", "192.0.2.2"))
	idn := porttest.NameServer(t, func(query []byte) []byte {
		if !bytes.Contains(query, []byte("xn--mnchen-3ya")) {
			return porttest.RCode(3)(query)
		}
		return porttest.Records("192.0.2.7")(query)
	})
	only4 := porttest.NameServer(t, porttest.Records("192.0.2.1"))
	for _, tc := range []struct {
		name       string
		resolution Resolution
		host       string
		want       []string
		outcome    probe.Outcome
	}{
		{"NXDOMAIN", Resolution{Resolver: porttest.NameServer(t, porttest.RCode(3))}, "name.example.", nil, probe.DNSNotFound},
		{"SERVFAIL", Resolution{Resolver: porttest.NameServer(t, porttest.RCode(2))}, "name.example.", nil, probe.DNSError},
		{"REFUSED", Resolution{Resolver: porttest.NameServer(t, porttest.RCode(5))}, "name.example.", nil, probe.DNSError},
		{"silence", Resolution{Resolver: porttest.NameServer(t, func([]byte) []byte { return nil })}, "name.example.", nil, probe.DNSTimeout},
		{"no address", Resolution{Resolver: porttest.NameServer(t, porttest.RCode(0))}, "name.example.", nil, probe.DNSNotFound},
		{"no IPv6 address", Resolution{NoFallback: true, Resolver: only4}, "name.example.", nil, probe.DNSNotFound},
		// To package net an answer without an IPv6 address, as /etc/hosts gives it too.
		{"IPv4 in the place of IPv6", Resolution{NoFallback: true, Resolver: porttest.NameServer(t, porttest.Records("::ffff:192.0.2.1"))}, "name.example.", nil, probe.DNSNotFound},
		{"IPv4 literal, IPv6 only", Resolution{NoFallback: true}, "192.0.2.1", nil, probe.DNSNotFound},
		{"IPv6 literal, IPv4 only", Resolution{Prefer: IP4, NoFallback: true}, "2001:db8::1", nil, probe.DNSNotFound},
		{"prefers IPv6", Resolution{Resolver: both}, "name.example.", []string{"2001:db8::1", "192.0.2.1", "192.0.2.2"}, probe.Open},
		{"prefers IPv4", Resolution{Prefer: IP4, Resolver: both}, "name.example.", []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}, probe.Open},
		{"IPv4 only", Resolution{Prefer: IP4, NoFallback: true, Resolver: both}, "name.example.", []string{"192.0.2.1", "192.0.2.2"}, probe.Open},
		{"name that is no ASCII", Resolution{Prefer: IP4, NoFallback: true, Resolver: idn}, "münchen.example.", []string{"192.0.2.7"}, probe.Open},
		{"falls back", Resolution{Resolver: only4}, "name.example.", []string{"192.0.2.1"}, probe.Open},
		{"literal", Resolution{}, "192.0.2.1", []string{"192.0.2.1"}, probe.Open},
		{"IPv4 in IPv6", Resolution{}, "::ffff:192.0.2.1", []string{"192.0.2.1"}, probe.Open},
		{"zone", Resolution{}, "fe80::1%lo", []string{"fe80::1%lo"}, probe.Open},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			addrs, err := tc.resolution.LookUp(ctx, tc.host)
			var outcome probe.Outcome
			if err != nil {
				outcome, _ = ClassifyLookup(err)
			}
			if outcome != tc.outcome {
				t.Errorf("got %s, want %s: %v", outcome, tc.outcome, err)
			}
			var got []string
			for _, addr := range addrs {
				got = append(got, addr.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestClassifyLookup(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want probe.Outcome
	}{
		{"not of DNS", errors.New("no such host"), probe.DNSError},
		{"no descriptors", errors.Join(&net.DNSError{}, syscall.EMFILE), probe.LocalError},
		{"given up", &net.DNSError{UnwrapErr: context.Canceled}, probe.NotRun},
		{"context ends", context.DeadlineExceeded, probe.DNSTimeout},
		{"not found at last", &net.DNSError{IsNotFound: true, IsTemporary: true}, probe.DNSNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, _ := ClassifyLookup(tc.err); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
