package check

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/route"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/trace"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

const schemaFile = "../../docs/schemas/check.json"

// TestSchema holds a report that has everything, and one that has nothing, to the schema,
// and the schema's lists to the code.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	whole := wholeReport()
	if empty := emptyFields(reflect.ValueOf(*whole)); !slices.Equal(empty, []string{"Success"}) { // it would hide what to try
		t.Errorf("the report lacks %v", empty)
	}
	untraced := *whole
	untraced.PathErr = nil // which hides the hops
	for _, r := range []*Report{whole, &untraced, {Target: whole.Target, Result: probe.Result{Outcome: probe.NotRun}, Verdict: whole.Verdict}} {
		line, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%v\n%s", err, line)
		}
	}
	compareKeys(t, whole)
	var codes, outcomes []string
	for c := range verdict.NumCodes {
		codes = append(codes, c.String())
	}
	for _, o := range probe.Outcomes() {
		outcomes = append(outcomes, o.String())
	}
	defs := schemaOf(t)["$defs"].(map[string]any)
	for name, want := range map[string][]string{"verdict": codes, "outcome": outcomes} {
		var got []string
		for _, v := range defs[name].(map[string]any)["enum"].([]any) {
			got = append(got, v.(string))
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-code +schema):\n%s", name, diff)
		}
	}
}

// compareKeys has each key of the schema be one of the whole report.
func compareKeys(t *testing.T, whole *Report) {
	t.Helper()
	line, _ := whole.JSON()
	var report map[string]any
	if err := json.Unmarshal(line, &report); err != nil {
		t.Fatal(err)
	}
	for key := range schemaOf(t)["properties"].(map[string]any) {
		if _, ok := report[key]; !ok {
			t.Errorf("no report has the key %s of the schema", key)
		}
	}
}

func schemaOf(t *testing.T) (schema map[string]any) {
	t.Helper()
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

func emptyFields(v reflect.Value) (names []string) {
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			names = append(names, v.Type().Field(i).Name)
		}
	}
	return names
}

func wholeReport() *Report {
	own := netip.MustParseAddrPort("192.0.2.1:443")
	result := probe.Result{
		Outcome: probe.Refused, Phase: probe.PhaseConnect, Origin: probe.OriginTargetFirewall, Peer: own, Redirect: "https://b.test/", Proxy: "p:3128",
		ICMP: probe.ICMPError{Type: 3, Code: 3, Offender: own.Addr()}, Err: errors.New("connection refused"), Duration: time.Millisecond,
	}
	on := &socket.Listener{ListenerID: socket.ListenerID{Protocol: socket.TCP, Address: own.Addr(), Port: 443}, Sockets: 2, Known: ^socket.Facts(0)}
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "a.test\u202e"}, DNSNames: []string{"a.test"}, NotAfter: time.Now()}
	return &Report{
		Target: &probe.Target{Address: "https://a.test/", Module: &probe.Module{Name: "http_2xx", Kind: probe.KindHTTP}, Netns: "web"},
		Result: result, Known: true, netns: "docker-0123456789ab", source: own.Addr(), device: "eth0", nameServers: &[]string{"192.0.2.53:53"}, meanwhile: counters{1, 1},
		Verdict: verdict.Verdict{Code: verdict.Refused, Place: verdict.There, Sentence: "a.test refuses", Next: "start it"},
		Lookups: []probe.Lookup{{Host: "a.test", Addresses: []netip.Addr{own.Addr()}, Err: errors.New("x"), Answers: []probe.NameAnswer{
			{Server: "192.0.2.53:53", Name: "a.test", Type: "A", Code: "NOERROR", Aliases: []string{"b.test"}, Addresses: []netip.Addr{own.Addr()}},
			{Server: "192.0.2.53:53", Name: "a.test.corp", Type: "AAAA"},
		}}},
		Connections: []probe.Connection{{From: own, To: own, RoundTrip: 1, MSS: 1448, Retransmits: 1, Err: errors.New("x")}, {To: own}},
		Handshakes: []probe.Handshake{
			{ServerName: "a.test", Version: 0x304, Cipher: 0x1301, Protocol: "h2", Certificates: []*x509.Certificate{cert}, AskedForOurs: true},
			{ServerName: "a.test", Err: errors.New("x")},
		},
		Attempts: []Attempt{{Address: own, Result: result, Probed: true}, {Address: own}},
		Listener: &Listener{
			Answer: socket.Answer{Standing: socket.Listens, Protocol: socket.TCP, To: own, Listener: on},
			Owners: []socket.Owner{{Process: "nginx", PID: 7, User: "www-data", Unit: "nginx.service", Container: "c"}, {}}, Others: []socket.Listener{*on},
		},
		Ports:    &verdict.Ports{Used: 1, Of: 10, First: 1, Last: 10, By: "python3"},
		Firewall: &Firewall{Hidden: true},
		PathErr:  errors.New("x"), Path: &trace.Path{
			Target: own, Protocol: "tcp", Packets: 7, MTU: trace.MTU{Bytes: 1400, Lost: 1500},
			Hops: []trace.Hop{{Number: 1}, {Number: 2, Addr: own.Addr(), RoundTrip: 1, ICMP: result.ICMP}},
		},
		Route: &route.Route{Type: route.Unicast, Gateway: own.Addr(), Device: "eth0", Source: own.Addr(), MTU: 1500, Table: 254, By: "x", Neighbour: "reachable"},
	}
}
