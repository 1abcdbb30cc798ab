# What can be made here; `make help` lists it. Details of the tiers of tests are in CONTRIBUTING.md.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VERSION := $(or $(VERSION),$(shell packaging/version.sh))
ARCHES ?= amd64 arm64
FORMATS ?= deb rpm
DIST ?= dist
# The time of the commit goes into the packages: the same commit gives the same bytes, whenever and wherever.
export SOURCE_DATE_EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || echo 0))

# With PKG=./internal/lock only that package is tested, RUN=Name selects tests.
PKG ?= ./...
RUN ?= .

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show three real systemd nodes reboot one at a time, with proof (root; installs what it needs)
	@go run ./internal/e2e/demo

.PHONY: test
test: ## All tests: unit and integration, and as root end to end on real systemd nodes (installs what it needs)
	@.ci/test unit e2e

.PHONY: unit
unit: ## Unit and integration tests against a real control plane; no root needed (PKG=./internal/lock RUN=TestName)
	@PKG='$(PKG)' RUN='$(RUN)' .ci/test unit

.PHONY: e2e
e2e: ## End-to-end tests: real systemd nodes install the .deb and reboot (root; RUN=TestName)
	@RUN='$(RUN)' .ci/test e2e

# How many histories, and the seed of the first one.
SEEDS ?= 10000
SEED ?= 1

.PHONY: sim
sim: ## Simulate clusters in virtual time in which everything goes wrong, and check the laws (SEEDS=20000 SEED=123)
	@go test -count=1 -timeout 60m -v -run 'TestLaws|TestReplay|TestEachRequest' ./internal/sim -seeds $(SEEDS) -seed $(SEED) | grep -vE '^=== |^ *--- PASS'

.PHONY: model
model: ## Check the model of the lock and the cycle in every state, and that each broken rule is noticed (docs/model.md)
	@.ci/model

.PHONY: bench
bench: ## Measure what docs/benchmarks.md tells, and write its table anew (no root; about 15 minutes; BENCH='-idle 1m')
	@command -v dbus-daemon >/dev/null || .ci/deps unit
	@$(MAKE) -s DIST=build/bench stage-$$(go env GOARCH)
	@go run ./internal/testenv/build >/dev/null
	go run ./internal/bench -kured build/bench/stage/$$(go env GOARCH)/kured -write docs/benchmarks.md $(BENCH)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, go.mod, shell scripts, systemd units
	@.ci/lint

.PHONY: packages
packages: $(addprefix package-,$(ARCHES)) ## Build dist/kured_VERSION_{amd64,arm64}.{deb,rpm}, reproducible

.PHONY: packages-check
packages-check: ## Build the packages a second time elsewhere and compare; lintian; rpm's own checks
	@.ci/packages-check

.PHONY: docs
docs: ## Write what has one source anew: kured.toml, its schema and manual page, the words in docs/troubleshoot.md
	@go run ./internal/reference/generate

.PHONY: deps
deps: ## Install the Debian packages that the other targets need (root)
	@.ci/deps all

.PHONY: version
version: ## Print the version of this checkout
	@echo '$(VERSION)'

.PHONY: clean
clean: ## Remove what was built here (not the caches of Go and of the tests)
	rm -rf $(DIST) build

# Packages: one stage directory per architecture with the binary and the generated files.
STAGES := $(addprefix stage-,$(ARCHES))
PACKAGES := $(addprefix package-,$(ARCHES))
.PHONY: $(STAGES) $(PACKAGES)

$(STAGES): stage-%:
	mkdir -p $(DIST)/stage/$*
	CGO_ENABLED=0 GOOS=linux GOARCH=$* go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' \
	  -o $(DIST)/stage/$*/kured ./cmd/kured
	@for page in docs/man/*.md; do \
	  name=$${page##*/}; \
	  go tool go-md2man -in "$$page" -out $(DIST)/stage/$*/$${name%.md} && gzip -9nf $(DIST)/stage/$*/$${name%.md} || exit 1; \
	done
	@for shell in bash zsh fish; do \
	  CGO_ENABLED=0 go run -trimpath ./cmd/kured completion $$shell >$(DIST)/stage/$*/kured.$$shell || exit 1; \
	done
	@packaging/third-party-licenses.sh $(DIST)/stage/$*/kured | gzip -9n >$(DIST)/stage/$*/third-party-licenses.gz
	@{ echo 'kured ($(VERSION)) unstable; urgency=medium'; echo; \
	   echo '  * What changed: https://github.com/kured-host/kured/blob/main/CHANGELOG.md'; echo; \
	   echo " -- kured-host maintainers <kured-host@users.noreply.github.com>  $$(LC_ALL=C date -u -R -d @$$SOURCE_DATE_EPOCH)"; \
	 } | gzip -9n >$(DIST)/stage/$*/changelog.gz

$(PACKAGES): package-%: stage-%
	@for format in $(FORMATS); do \
	  package='$(DIST)/kured_$(VERSION)_'$*.$$format; \
	  output=$$(VERSION='$(VERSION)' ARCH=$* STAGE='$(DIST)/stage/$*' \
	    go tool nfpm package --packager $$format --target "$$package") || { echo "$$output" >&2; exit 1; }; \
	  echo "$$package"; \
	done
