# What can be made here; `make help` lists it. Details of the tiers of tests are in CONTRIBUTING.md.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VERSION := $(or $(VERSION),$(shell packaging/version.sh))
ARCHES ?= amd64 arm64 armhf
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
demo: ## Show three real systemd nodes reboot one at a time, with proof (root; DEMO_BY=ansible rolls kured out by Ansible)
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
bench: ## Measure what docs/benchmarks.md tells, and write its table anew (no root; about 20 minutes; BENCH='-idle 1m')
	@command -v dbus-daemon >/dev/null || .ci/deps unit
	@$(MAKE) -s DIST=build/bench stage-$$(go env GOARCH)
	@go run ./internal/testenv/build >/dev/null
	go run ./internal/bench -kured build/bench/stage/$$(go env GOARCH)/kured -write docs/benchmarks.md $(BENCH)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, go.mod, shell scripts, systemd units, manual pages, the Ansible collection
	@.ci/lint

.PHONY: packages
packages: $(addprefix package-,$(ARCHES)) ## Build dist/kured_VERSION_{amd64,arm64,armhf}.{deb,rpm}, reproducible, each with its SBOM

.PHONY: release
release: ## Packages and SHA256SUMS of the version that is tagged, signed if KURED_SIGNING_KEY names a key of gpg's
	@VERSION='$(VERSION)' DIST='$(DIST)' ARCHES='$(ARCHES)' FORMATS='$(FORMATS)' packaging/release.sh

# Where the repository lies, and by what address nodes will see it.
REPO ?= $(DIST)/repository
REPO_URL ?=

.PHONY: repo
repo: ## Add the packages in dist/ to an apt and a dnf repository, signed by KURED_SIGNING_KEY (REPO=dir REPO_URL=https://…)
	@.ci/deps repo
	@DIST='$(DIST)' REPO='$(REPO)' REPO_URL='$(REPO_URL)' packaging/repository.sh

.PHONY: packages-check
packages-check: ## Make a release and a repository of this tree, build it again elsewhere and compare; lintian, rpmlint
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

# Packages: a stage directory for what is the same everywhere, and one per architecture with the binary.
STAGES := $(addprefix stage-,$(ARCHES))
PACKAGES := $(addprefix package-,$(ARCHES))
.PHONY: stage $(STAGES) $(PACKAGES)

# Go's and nfpm's names of Debian's architectures; armhf is ARMv7 with a floating point unit, as in Debian and Fedora.
go_arch = $(if $(filter armhf,$1),arm,$1)
nfpm_arch = $(if $(filter armhf,$1),arm7,$1)

stage:
	@mkdir -p $(DIST)/stage/all
	@for page in docs/man/*.md; do \
	  name=$${page##*/}; \
	  go tool go-md2man -in "$$page" -out $(DIST)/stage/all/$${name%.md} && gzip -9nf $(DIST)/stage/all/$${name%.md} || exit 1; \
	done
	@for shell in bash zsh fish; do \
	  CGO_ENABLED=0 go run -trimpath ./cmd/kured completion $$shell >$(DIST)/stage/all/kured.$$shell || exit 1; \
	done
	@go run ./packaging/changelog -version '$(VERSION)' -time $$SOURCE_DATE_EPOCH -format deb | gzip -9n >$(DIST)/stage/all/changelog.gz
	@go run ./packaging/changelog -version '$(VERSION)' -time $$SOURCE_DATE_EPOCH -format rpm >$(DIST)/stage/all/changelog.yaml
	@# nfpm would give Debian's one the name of a package that has a Debian revision, so only the rpm gets it from nfpm.
	@cp nfpm.yaml $(DIST)/stage/all/deb.yaml
	@{ cat nfpm.yaml; echo 'changelog: $(DIST)/stage/all/changelog.yaml'; } >$(DIST)/stage/all/rpm.yaml

$(STAGES): stage-%: stage
	mkdir -p $(DIST)/stage/$*
	CGO_ENABLED=0 GOOS=linux GOARCH=$(call go_arch,$*) GOARM=7 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' \
	  -o $(DIST)/stage/$*/kured ./cmd/kured
	@packaging/third-party-licenses.sh $(DIST)/stage/$*/kured | gzip -9n >$(DIST)/stage/$*/third-party-licenses.gz

$(PACKAGES): package-%: stage-%
	@for format in $(FORMATS); do \
	  package='$(DIST)/kured_$(VERSION)_'$*.$$format; \
	  output=$$(VERSION='$(VERSION)' ARCH=$(call nfpm_arch,$*) STAGE='$(DIST)/stage/$*' COMMON='$(DIST)/stage/all' \
	    go tool nfpm package --config '$(DIST)/stage/all/'$$format.yaml --packager $$format --target "$$package") || \
	    { echo "$$output" >&2; exit 1; }; \
	  go run ./packaging/sbom -version '$(VERSION)' -time $$SOURCE_DATE_EPOCH -package "$$package" \
	    -binary $(DIST)/stage/$*/kured >"$$package.cdx.json"; \
	  echo "$$package"; \
	done
