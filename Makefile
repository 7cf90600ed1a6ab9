# Everything that a person or CI runs. `make help` lists it; CI runs `make test` and nothing else.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO ?= go
ENVOY_VERSION ?= 1.40.0
GOFILES = $(shell git ls-files -co --exclude-standard '*.go' go.mod go.sum)

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

build: bin/isthmus ## build ./bin/isthmus

bin/isthmus: $(GOFILES)
	$(GO) build -trimpath -o $@ ./cmd/isthmus

envoy: ## get the reference Envoy into the user's cache, unless $ISTHMUS_ENVOY or PATH has one
	@[ -n "$$ISTHMUS_ENVOY" ] || command -v envoy >/dev/null || e2e/get-envoy.sh $(ENVOY_VERSION)

consul: ## build Consul 1.15.3 and 1.13.9 into the user's cache, for the tests
	@e2e/get-consul.sh 1.15.3
	@e2e/get-consul.sh 1.13.9

demo: build envoy ## two clusters, four Envoys, one peered TCP service, on this machine
	./bin/isthmus demo

test: lint unit e2e e2e-envoys ## everything that CI runs: lint, unit tests with the race detector, e2e on real Envoys

unit: envoy ## unit, golden and property tests, with the race detector
	@set -o pipefail; $(GO) test -race -timeout 20m -json $$($(GO) list ./... | grep -v /e2e) | $(GO) run ./internal/testcount

e2e: build envoy consul ## black-box tests on real Envoys; in network namespaces when root
	@set -o pipefail; $(GO) test -count=1 -timeout 40m -json ./e2e/... | $(GO) run ./internal/testcount

OTHER_ENVOYS ?= 1.37.0 1.38.3 1.39.3
e2e-envoys: build ## promises a to e on the other versions of Envoy that are supported
	@set -eo pipefail; for version in $(OTHER_ENVOYS); do envoy=$$(e2e/get-envoy.sh $$version); echo "== Envoy $$version"; \
	  ISTHMUS_ENVOY=$$envoy $(GO) test -count=1 -timeout 10m -json -run 'TestPromise(AReachable|BUnexported|CIntentions|DNothingBeforeYes|EClosedAtTheGateway)$$' ./e2e \
	  | $(GO) run ./internal/testcount; done

golden: ## rewrite the expected parts of golden cases; read the diff before you commit it
	UPDATE_GOLDEN=1 $(GO) test ./config/... ./snapshot/... ./gateway/... ./sidecar/... ./api/... ./cmd/...

proto: ## generate peering/wire from its .proto files
	peering/wire/generate.sh

lint: ## gofmt, go vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	$(GO) vet ./...

FUZZTIME ?= 20s
fuzz: ## run each fuzz test for FUZZTIME (20s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for name in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$pkg; done; done

bench: ## the numbers of docs/numbers.md: ratios against anchors measured in the same run; minutes
	$(GO) test -run '^$$' -bench ThousandProxies -benchtime 1x -timeout 30m ./xds
	$(GO) test -run '^$$' -bench OneMoreExport -benchtime 1x -timeout 30m ./cmd/isthmus

bench-peering: consul ## the two peering numbers, beside Consul in the same run
	$(GO) test -run '^$$' -bench BenchmarkPeering -benchtime 1x -timeout 30m ./cmd/isthmus

.PHONY: help build envoy consul demo test unit e2e e2e-envoys golden proto lint fuzz bench bench-peering
