package exporter_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/port-exporter/port_exporter/exporter"
)

func Example() {
	ports, err := exporter.New(context.Background(), exporter.Options{
		Collectors: []string{"sockets", "listeners", "connections"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ports.Close()

	registry := prometheus.NewRegistry()
	registry.MustRegister(ports) // beside the collectors of the program
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()

	response, err := http.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
	// Output: 200 OK
}
