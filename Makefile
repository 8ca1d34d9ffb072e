# make help lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZTIME ?= 30s
TESTFLAGS ?=
BENCHFLAGS ?=
# CI looks for races and for tests that lean on each other's order; at a desk the cache of go test is worth more.
ifneq ($(CI),)
TESTFLAGS += -race -shuffle=on -count=1
endif
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: export HANDOVER_NOTICE_WINDOW ?= 1m
run: build ## run everything with a demo company; mails are written after a minute instead of 15
	@exec bin/handover run

.PHONY: build
build: ## build bin/handover
	go build -o bin/handover ./cmd/handover

.PHONY: test
test: prepare check ## test everything, on a bare machine too; CI=1 adds the race detector
	go test -timeout 15m $(TESTFLAGS) ./...
	cd test/bench && go test $(TESTFLAGS) ./...

.PHONY: test-short
test-short: ## only what needs no server: the domain, the events, the mapping
	go test ./pkg/event ./internal/handover ./internal/service ./cmd/handover/internal/... ./test/contract

.PHONY: prepare
prepare: ## install what the tests need (PostgreSQL), or say what to install
	@.ci/prepare

.PHONY: check
check: ## formatting and go vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "make fmt would change: $$unformatted"; exit 1; }
	go vet ./...

.PHONY: lint
lint: ## golangci-lint; the first time it is built, which takes minutes
	go run $(GOLANGCI) run

.PHONY: fmt
fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: generate
generate: ## write what is generated: the OpenAPI document
	go generate ./...

.PHONY: verify
verify: generate ## fail if anything generated is out of date
	@git diff --exit-code --stat || { echo "Commit what make generate has changed."; exit 1; }

.PHONY: bench
bench: build ## measure Handover on this machine, beside the database's own limit; BENCHFLAGS="--mix all" for more
	bin/handover bench $(BENCHFLAGS)

.PHONY: bench-peers
bench-peers: prepare build ## measure Handover beside Watermill, River and nats.go on the same work; ten minutes
	cd test/bench && go run . --handover ../../bin/handover --dir ../../.handover/bench $(BENCHFLAGS)

.PHONY: soak
soak: export SOAK_TIME ?= 30m
soak: prepare ## drive everything while everything breaks, for SOAK_TIME (30m); SOAK_SEED repeats a schedule, SOAK_REPORT=file.json keeps the table
	go test ./test/soak -run '^TestSoak$$' -v -count=1 -timeout 24h

.PHONY: drills
drills: prepare ## a broker of three loses its leaders, and a PostgreSQL fails over to its standby; with what that took
	DRILLS=long go test ./test/soak -run '^TestDrill' -v -count=1 -timeout 10m

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (30s), and print a table; ONLY=Cursor for some
	@.ci/fuzz $(FUZZTIME)

.PHONY: clean
clean: ## remove what was built; data in .handover stays
	rm -rf bin coverage.out
