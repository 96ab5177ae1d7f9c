# `make` prints what there is. Variables may be set on the command line:
#   make test PKG=./pg/... RUN=TestLSN      make test RACE=0        make test RACE=all
#   make bench PKG=./reconcile BENCH=Diff BENCHTIME=2s
#   make sim SEEDS=10000                    make faults HOURS=1 SEED=7 NODES=5
#   make install PREFIX=/usr DESTDIR=/tmp/package VERSION=v1.2.0

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

PKG          = ./...
RUN          = .
BENCH        = .
BENCHTIME    = 1s
TEST_TIMEOUT = 30m
SEEDS        = 2000
HOURS        = 0.1
SEED         = 1
NODES        = 3
PREFIX       = /usr/local

# The binaries are static; only the race detector needs C. Without the option every
# program that it watches sleeps a second at its end.
export CGO_ENABLED := 0
export GORACE      := atexit_sleep_ms=0 $(GORACE)

# Stamps describe the commit, never the moment, so that a commit always gives
# the same bytes. safe.directory: the checkout may belong to another user.
GIT     = git -c safe.directory='*'
VERSION = $(shell $(GIT) describe --tags --dirty 2>/dev/null || echo dev)
COMMIT  = $(shell $(GIT) describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)
DATE    = $(shell TZ=UTC $(GIT) show -s --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
STAMP   = github.com/ramhq/ram/cmd/internal/buildinfo
LDFLAGS = -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Commit=$(COMMIT) -X $(STAMP).Date=$(DATE)

# Whole clusters wait more than they compute: four tests at once suit two cores.
# The simulations have no goroutines, so that they go without the race detector, in the
# time that the others leave; whole clusters do because it takes half of the machine:
# RACE=all is for them.
# Go's test cache does not see PostgreSQL change, hence -count=1.
TESTFLAGS = -count=1 -timeout $(TEST_TIMEOUT) -p 2 -parallel 4

# Empty where a C compiler and its headers are missing.
CC_WORKS  = $(shell echo '\#include <stdlib.h>' | $$(go env CC) -E - >/dev/null 2>&1 && echo 1)
RACE      = $(CC_WORKS)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## static bin/ramd and bin/ramctrl
	@mkdir -p bin
	go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/ramd ./cmd/ramctrl

.PHONY: demo
demo: prerequisites build ## a cluster on this machine, from nothing to a changed spec (KEEP=1 leaves it running)
	@bash examples/demo.sh

.PHONY: test
test: prerequisites ## every test, with real PostgreSQL; race detector (RACE=all for whole clusters too) when a C compiler is there
	@race=-race; cgo=1; \
	if [ -z '$(RACE)' ] || [ '$(RACE)' = 0 ]; then \
	  echo 'test: without the race detector (it needs gcc and libc6-dev, and RACE=1)'; race=; cgo=0; \
	fi; \
	packages=$$(go list $(PKG)); \
	simulated=$$(grep '/reconcile/sim' <<<"$$packages" || true); \
	others=$$(grep -v '/reconcile/sim' <<<"$$packages" || true); \
	whole=; \
	if [ '$(RACE)' != all ]; then \
	  whole=$$(grep '/testscripts$$' <<<"$$others" || true); \
	  others=$$(grep -v '/testscripts$$' <<<"$$others" || true); \
	fi; \
	told=$$(mktemp); trap 'rm -f "$$told"' EXIT; failed=; sim=; \
	if [ -n "$$simulated" ]; then \
	  GOGC=400 nice -n 19 go test $(TESTFLAGS) -run '$(RUN)' $$simulated >"$$told" 2>&1 & sim=$$!; \
	fi; \
	[ -z "$$whole" ] || go test $(TESTFLAGS) -run '$(RUN)' $$whole || failed=1; \
	[ -z "$$others" ] || CGO_ENABLED=$$cgo go test $$race $(TESTFLAGS) -run '$(RUN)' $$others || failed=1; \
	[ -z "$$sim" ] || wait "$$sim" || failed=1; \
	cat "$$told"; \
	[ -z "$$failed" ]

.PHONY: check
check: check-format check-vet check-static check-layering check-mod ## gofumpt, go vet, staticcheck, layering, go.mod tidy

.PHONY: check-format check-vet check-static check-layering check-mod
check-format:
	@echo 'check: gofumpt'
	@unformatted=$$(go tool gofumpt -l .); \
	  [ -z "$$unformatted" ] || { printf 'not formatted; run make fmt:\n%s\n' "$$unformatted" >&2; exit 1; }

check-vet:
	@echo 'check: go vet'
	@go vet ./...

check-static:
	@echo 'check: staticcheck'
	@go tool staticcheck ./...

check-layering:
	@echo 'check: layering'
	@go test -count=1 -run '^TestLayering' ./testscripts

# tidy wants even the modules that dependencies' tests import: without a
# network they may be out of reach, which says nothing about go.mod.
check-mod:
	@echo 'check: go.mod'
	@errors=$$(mktemp); trap 'rm -f "$$errors"' EXIT; \
	  if difference=$$(go mod tidy -diff 2>"$$errors"); then exit 0; fi; \
	  if [ -n "$$difference" ]; then printf 'not tidy; run go mod tidy:\n%s\n' "$$difference" >&2; exit 1; fi; \
	  if grep -qE '(Get|Head) "https?://|module lookup disabled|dial tcp' "$$errors"; then \
	    echo 'check: go.mod not compared: go mod tidy could not fetch modules'; exit 0; fi; \
	  cat "$$errors" >&2; exit 1

.PHONY: golden
golden: prerequisites ## rewrite golden files; commit only differences that you can explain
	@packages=$$({ grep -rlE --include='*_test.go' 'flag\.Bool(Var)?\(.*"update"' . || true; } | xargs -r -n1 dirname | sort -u); \
	  [ -n "$$packages" ] || { echo 'golden: no package has golden files'; exit 0; }; \
	  go test $(TESTFLAGS) $$packages -update

.PHONY: bench
bench: prerequisites ## benchmarks, clusters included
	@go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -timeout $(TEST_TIMEOUT) -p 1 $(PKG) | awk "$$READABLE"

.PHONY: sim
sim: ## failover and reconciliation on SEEDS simulated schedules of faults
	GOGC=400 go test -count=1 -timeout 0 ./reconcile/sim -args -seeds $$(( ($(SEEDS) + 9) / 10 ))
	GOGC=400 RAM_SIM_SEEDS=$(SEEDS) go test -count=1 -timeout 0 ./reconcile/sim/failover

.PHONY: faults
faults: prerequisites ## real faults on hosts made of network namespaces, for HOURS (root)
	RAM_FAULTS_ALL=1 RAM_FAULTS_HOURS=$(HOURS) RAM_FAULTS_SEED=$(SEED) RAM_FAULTS_NODES=$(NODES) \
	  go test -count=1 -v -timeout 0 -run 'TestFaults|TestSchedule' ./testscripts/faults

.PHONY: fmt
fmt: build ## gofumpt for Go, ramctrl fmt for examples
	go tool gofumpt -w .
	bin/ramctrl fmt examples

.PHONY: install
install: build ## ramd and ramctrl to $(DESTDIR)$(PREFIX)/bin
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 0755 bin/ramd bin/ramctrl '$(DESTDIR)$(PREFIX)/bin/'

.PHONY: clean
clean: ## remove what make has built
	rm -rf bin

.PHONY: prerequisites
prerequisites: ## PostgreSQL from Debian's packages, without a cluster of Debian's own
	@.ci/prerequisites.sh

# One heading per package, times in the unit a person would choose; anything
# unexpected (a failure, a log line) passes through.
define READABLE
/^(goos|goarch|PASS|ok |\?)/ { next }
/^cpu:/ { if (!cpu++) print; next }
/^pkg:/ { print "\n" $$2; next }
/^Benchmark.* ns\/op/ {
  name = $$1; sub(/^Benchmark/, "", name); sub(/-[0-9]+$$/, "", name)
  line = sprintf("  %-44s", name)
  for (i = 3; i < NF; i += 2) {
    value = $$i; unit = $$(i + 1)
    if (unit == "ns/op") {
      unit = "ns"
      if (value >= 1e9) { value /= 1e9; unit = "s" }
      else if (value >= 1e6) { value /= 1e6; unit = "ms" }
      else if (value >= 1e3) { value /= 1e3; unit = "us" }
      line = line sprintf(" %9.4g %-3s", value, unit)
    } else line = line sprintf("  %s %s", value, unit)
  }
  print line; next
}
{ print }
endef
export READABLE
