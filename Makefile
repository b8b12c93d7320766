# `make help` lists the targets.

BIN     := bin/meshsim
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
SCENARIO ?= mtls-rollout
SOAK    ?= 10m
SIMULATIONS ?= 4000
FUZZ     ?= 10s
TOPOLOGY ?= eks-1.24
DAY      ?=
MESH     ?= fakemesh

export GOTOOLCHAIN = local

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/meshsim
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN) ./cmd/meshsim

.PHONY: sandbox
sandbox: build ## the main job: raise the cluster, rehearse the rollout, give the verdict; DAY=90s for a shorter launch day
	$(BIN) scenarios validate $(SCENARIO) $(if $(DAY),--day $(DAY))
	$(BIN) up --topology $(TOPOLOGY)
	$(BIN) run $(SCENARIO) $(if $(DAY),--day $(DAY))

.PHONY: down
down: build ## remove the sandbox: cluster, engine, networks
	$(BIN) down

.PHONY: test
test: compiler ## unit tests and the command line in-process, with the race detector
	go test -race -timeout 20m ./...

.PHONY: test-postgres
test-postgres: compiler postgres ## the shop on a real PostgreSQL (as root): failures between any two steps, restarts, crashes
	go test -race -timeout 30m -tags postgres ./fakeshop/...

.PHONY: test-report
test-report: chromium ## the report in a headless Chromium; SHOTS=folder keeps screenshots
	go test -timeout 20m -count=1 -tags browser ./harness/verdict/browser $(if $(SHOTS),-shots $(abspath $(SHOTS)))

.PHONY: e2e
e2e: build ## rehearsals on a real kind cluster; makes engine and bundle when missing; bin/e2e keeps the runs
	rm -rf bin/e2e && mkdir -p bin/e2e
	go test -tags e2e -count=1 -timeout 75m -v -artifacts -outputdir $(CURDIR)/bin/e2e ./test/e2e/...

.PHONY: netns
netns: ## the stand-in mesh's redirection, and the wire capture, between network namespaces; as root
	go test -tags netns -count=1 ./fakemesh/cmd/fakemesh
	go test -tags netns -count=1 -v -run Namespaces ./harness/agent/wire

.PHONY: mesh-conformance
mesh-conformance: build ## hold MESH=fakemesh|linkerd against its contract on a kind cluster; ROWS='R1|P.*' picks rows, REPORT=file, KEEP=1
	MESH='$(MESH)' ROWS='$(ROWS)' KEEP='$(KEEP)' REPORT='$(abspath $(REPORT))' \
		go test -tags conformance -count=1 -timeout 150m -v ./test/mesh/

.PHONY: fuzz
fuzz: ## fuzz every parser, each for FUZZ=10s, or so many times: FUZZ=1000000x
	@go test -list '^Fuzz' ./... 2>/dev/null | awk '/^Fuzz/ {f[n++]=$$1} /^ok/ {for (i=0;i<n;i++) print $$2, f[i]; n=0}' | \
	while read -r pkg name; do echo "== $$pkg $$name"; go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZ) $$pkg || exit 1; done

.PHONY: bench
bench: ## benchmarks of the parts whose speed matters
	go test -run '^$$' -bench . -benchmem ./harness/... ./results/... ./fakemesh/... ./fakeshop/...

.PHONY: bench-mesh
bench-mesh: nginx ## what a pair of the stand-in's proxies costs, beside none and beside nginx: 5 min
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/bench-mesh ./test/bench/mesh
	bin/bench-mesh -nginx-root bin/nginx -json bin/bench-mesh.json

.PHONY: bench-verdict
bench-verdict: build ## judge and report runs of 5 million requests: time and memory of meshsim report: 1 min
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/bench-verdict ./test/bench/verdict
	bin/bench-verdict -meshsim $(BIN) -dir bin -json bin/bench-verdict.json

.PHONY: simulate
simulate: ## the share of wrong verdicts, over SIMULATIONS=4000 runs of each known distribution: 10 min
	go test -count=1 -timeout 0 -run WrongVerdicts -v ./harness/verdict -simulations $(SIMULATIONS)

.PHONY: bench-traffic
bench-traffic: build rivals ## how late the sender is and what it costs, beside vegeta, ghz and wrk; importing logs: 6 min
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/bench-traffic ./test/bench/traffic
	bin/bench-traffic -meshsim $(BIN) -vegeta bin/rivals/vegeta -ghz bin/rivals/ghz -wrk bin/rivals/usr/bin/wrk \
		-wrk-libs "$$(echo bin/rivals/usr/lib/*-linux-gnu)" -json bin/bench-traffic.json

.PHONY: soak-mesh
soak-mesh: compiler ## SOAK=10m of traffic through the stand-in's proxies, which change all the time, with the race detector
	go test -race -count=1 -timeout 0 -v ./test/soak/mesh -soak $(SOAK) -renew 15s

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "not gofmt'd:"; echo "$$files"; exit 1; }
	go vet ./...
	go vet -tags e2e ./test/e2e/...
	go vet -tags netns ./fakemesh/cmd/fakemesh ./harness/agent/wire
	go vet -tags conformance ./test/mesh/...
	go vet -tags postgres ./fakeshop/...
	go vet -tags browser ./harness/verdict/browser
	go build -C test/lint -o $(CURDIR)/bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...

.PHONY: generate
generate: protoc ## regenerate what is generated
	go generate ./...

.PHONY: drift
drift: generate ## fail when generated code is not what its source gives
	git diff --exit-code -- '*.pb.go' results/verdict.schema.json

# The race detector links with a C compiler.
.PHONY: compiler
compiler:
	@command -v gcc >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev; }

# Debian's nginx, which bench-mesh compares with. Where it is not installed it is
# unpacked: installing it would start a web server.
.PHONY: nginx
nginx:
	@test -x /usr/sbin/nginx -a -e /usr/lib/nginx/modules/ngx_stream_module.so || test -x bin/nginx/usr/sbin/nginx || { \
		mkdir -p bin/nginx/deb && cd bin/nginx/deb && \
		{ apt-get download -qq -o APT::Sandbox::User=root nginx libnginx-mod-stream || { apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root nginx libnginx-mod-stream; }; } && \
		for deb in *.deb; do dpkg-deb -x $$deb .. || exit 1; done; }

# What bench-traffic compares with: the command lines of vegeta and ghz at go.mod's
# versions, each with the dependencies of its own, and Debian's wrk, unpacked.
.PHONY: rivals
rivals:
	@mkdir -p bin/rivals/deb
	@for of in github.com/tsenart/vegeta/v12 github.com/bojand/ghz:/cmd/ghz; do \
		module=$${of%%:*}; program=$$module; test "$$of" = "$$module" || program=$$module$${of#*:}; \
		version=$$(go list -m -f '{{.Version}}' $$module) || exit 1; \
		GOBIN=$(CURDIR)/bin/rivals go install $$program@$$version || exit 1; done
	@test -x bin/rivals/usr/bin/wrk || { cd bin/rivals/deb && \
		{ apt-get download -qq -o APT::Sandbox::User=root wrk libluajit-5.1-2 || { apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root wrk libluajit-5.1-2; }; } && \
		for deb in *.deb; do dpkg-deb -x $$deb .. || exit 1; done; }

.PHONY: protoc
protoc:
	@command -v protoc >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends protobuf-compiler libprotobuf-dev; }

.PHONY: postgres
postgres:
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; }

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }
