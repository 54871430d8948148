# Every target works on a fresh Debian 12 or 13, as root, with Go, make and git: what else it needs it
# installs from Debian's archive (tools/need) and the Go module proxy. "make help" lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VERSION := $(shell tools/version)
GOARCH  ?= $(shell go env GOARCH)
LDFLAGS := -s -w -X github.com/incus-compose/ic-agent/internal/cli.Version=$(VERSION) -X main.version=$(VERSION)
FUZZTIME ?= 30s

# Two builds of one commit are the same, byte for byte, whoever owns the tree and wherever it lies.
export GOFLAGS := $(GOFLAGS) -buildvcs=false
export SOURCE_DATE_EPOCH ?= $(shell git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || stat -c %Y go.mod)
export VERSION GOARCH

# The lab of the scenarios is this tree's own: another checkout's run does not take it away.
export IC_E2E_LAB ?= e2e-$(shell printf %s '$(CURDIR)' | sha256sum | cut -c1-6)

LINTER := go tool -modfile=tools/go.mod golangci-lint

##@ Build

.PHONY: build
build: ## bin/ic-agent, bin/ic-healthd and bin/ic-launch, static
	CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: package
package: build ## dist/ic-agent_<version>_<arch>.deb
	packaging/build

##@ Test

.PHONY: test
test: unit race ## unit, race and e2e; says what could not run and why
	@if why=$$(test/lab/lab check 2>&1); then \
		$(MAKE) e2e; \
		echo "make test: unit, race and e2e ran, all passed"; \
	else \
		echo "make test: unit and race ran and passed; e2e did not run: $$(tail -n 1 <<<"$$why")"; \
	fi

.PHONY: unit
unit: ## all tests that need no Incus
	go test ./...

.PHONY: race
race: ## the same under the race detector, in random order
	@tools/need gcc:gcc /usr/include/stdlib.h:libc6-dev
	CGO_ENABLED=1 go test -race -shuffle=on ./...

.PHONY: e2e
e2e: package ## the scenarios of test/e2e, on a real Incus in the lab
	go test -tags e2e -count=1 -timeout 50m -v ./test/e2e/...

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (30s)
	tools/fuzz $(FUZZTIME)

.PHONY: bench
bench: package ## the benchmarks: of the pure parts, then in the lab against raw calls to Incus
	go test -run '^$$' -bench . -benchmem ./...
	@if why=$$(test/lab/lab check 2>&1); then \
		go test -tags bench -count=1 -timeout 30m -v ./bench/; \
	else \
		echo "make bench: those in the lab did not run: $$(tail -n 1 <<<"$$why")"; \
	fi

##@ Look

.PHONY: lint
lint: lint-go lint-units lint-man lint-scripts ## everything below

.PHONY: lint-go
lint-go: ## golangci-lint, with the rules of CONTRIBUTING.md
	$(LINTER) run ./...

.PHONY: lint-units
lint-units: ## the systemd units: valid, and as tight as they were
	@tools/need systemd-analyze:systemd
	packaging/check-units

.PHONY: lint-man
lint-man: ## the manual pages
	@tools/need man:man-db groff:groff-base
	packaging/check-man

.PHONY: lint-scripts
lint-scripts: ## the shell scripts
	@tools/need shellcheck:shellcheck
	shellcheck --severity=warning --external-sources --source-path=SCRIPTDIR --exclude=SC1090 $$(git -c safe.directory='*' grep -lE '^#!.*\b(ba)?sh\b')

.PHONY: format
format: ## rewrite the Go files as the linter wants them
	$(LINTER) fmt ./...

.PHONY: docs
docs: ## docs/compose.md and docs/x-ic-agent.md, from the tables in internal/compose
	go test ./internal/compose -run 'Test.*Page$$' -update-page

##@ See it work

.PHONY: demo
demo: ## boots the lab, installs the package, runs examples/, and leaves it up
	test/demo/demo up

.PHONY: demo-down
demo-down: ## ends the demo and removes what it made
	test/demo/demo down

.PHONY: clean
clean: ## removes bin and dist
	rm -rf bin dist

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
