GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || cat VERSION)
PKG      := github.com/prometheus/common/version
LDFLAGS  := -s -w -X $(PKG).Version=$(VERSION) -X $(PKG).Revision=$(shell git rev-parse HEAD 2>/dev/null) -X $(PKG).Branch=$(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)
LINT     := $(GO) tool -modfile=tools.mod golangci-lint
SYSTEMS  := linux/amd64 linux/arm64 linux/386 linux/riscv64 darwin/arm64 windows/amd64 freebsd/amd64 openbsd/amd64
FUZZTIME ?= 30s
SOCKETS  ?= 100000
SOAKTIME ?= 5m

.PHONY: help build test test-386 test-root lint fmt generate bpf bpf-check check fuzz attack soak vm bench cross rules package packages e2e-packages e2e-runtimes e2e-image chart release-check pictures

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' Makefile

build: ## Build ./port_exporter, static and stripped.
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o port_exporter .

test: ## Run the tests.
	$(GO) test ./...

test-386: ## Run the tests as programs of 32 bits, which the kernel must run.
	CGO_ENABLED=0 GOARCH=386 $(GO) test ./...

test-root: ## Run the tests that make network namespaces, under the race detector.
	$(GO) test -race -run InNamespace -v ./...

lint: ## Run golangci-lint, built from tools.mod.
	$(LINT) run

fmt: ## Format the code and tidy the modules.
	gofmt -w .
	$(GO) mod tidy

generate: ## Write golden files and generated documents anew.
	$(GO) test ./collector ./internal/cli ./internal/verdict -update
	cd packaging/kubernetes && $(GO) test -run TestRules ./... -update

bpf: ## Compile the BPF programs (Debian 12's clang and llvm).
	.ci/bpf build

bpf-check: ## Install that compiler (Debian, root), and compare what it makes with what is committed.
	apt-get install -y -q --no-install-recommends clang llvm >/dev/null
	.ci/bpf check

check: ## Check what CI checks; it installs what it needs on Debian.
	.ci/run

fuzz: ## Fuzz each parser for FUZZTIME.
	.ci/fuzz $(FUZZTIME)

attack: ## Attack every endpoint for three minutes while it is scraped.
	$(GO) test -run TestAttack -v -attack 3m .

soak: ## Run for SOAKTIME under load, and report memory, descriptors, goroutines (root).
	$(GO) test -run TestSoakInNamespace -v -timeout 0 -soak $(SOAKTIME) .

vm: ## Test what needs another kernel in an emulated machine (Debian, root).
	.ci/vm

bench: ## Measure beside the peers, on SOCKETS real sockets (needs root).
	$(GO) test -run '^$$' -bench . -benchtime 1x ./internal/bench -sockets $(SOCKETS)
	$(GO) test -run '^$$' -bench . ./internal/socket

cross: ## Vet and build for every system.
	.ci/cross $(SYSTEMS)

rules: ## Test the example rules with promtool.
	$(GO) test -run 'Promtool|Rule' ./internal/examplestest

.PHONY: fleet dashboards
fleet: ## Simulate 2,000 hosts that a Prometheus scrapes for four minutes (root, prometheus).
	$(GO) test -run TestFleetInNamespace -v -timeout 15m ./internal/fleettest -fleet 2000

dashboards: ## Build the dashboards of examples/dashboards anew.
	$(GO) run -C examples/dashboards/build . -to ..
	cd examples/dashboards && sha256sum *.json build/* >dashboards.sum

pictures: ## Take the pictures of the page (root, chromium, pngquant).
	$(GO) test -run TestPagePicturesInNamespace ./internal/probetest -page.pictures docs/images
	pngquant --force --nofs --ext .png 64 docs/images/page.png docs/images/page-phone.png

packages: ## Build deb, rpm and apk for each architecture into build/packages.
	packaging/build $(or $(shell git describe --tags --match 'v*' 2>/dev/null | sed s/^v//),0.0.0-dev) build/packages

e2e-packages: ## Install, upgrade, remove and purge the packages in a systemd (Debian, root).
	.ci/e2e-packages

e2e-runtimes: ## Compare what is exported with what real container runtimes run (Debian, root).
	.ci/e2e-runtimes

e2e-image: ## Build the image for two architectures, and run it as docs/container.md says (Debian, root).
	.ci/e2e-image

chart: ## Lint the Helm chart and render packaging/kubernetes from it; builds helm, some minutes.
	.ci/chart

release-check: ## Check .goreleaser.yaml; builds goreleaser, some minutes.
	$(GO) run github.com/goreleaser/goreleaser/v2@v2.15.1 check

package: build ## Pack the binary and the units into build/.
	mkdir -p build
	tar -czf build/port_exporter-$(VERSION).tar.gz LICENSE README.md CHANGELOG.md CONTRIBUTING.md docs port_exporter examples packaging
