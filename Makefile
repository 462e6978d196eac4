# Ratssaal's front door. `make` lists what there is.

target := $(or $(CARGO_TARGET_DIR),target)
web_sources := $(shell find web -name node_modules -prune -o -path web/dist -prune -o -type f -print 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run cluster build image web test lint e2e e2e-kubernetes audit bench bench-peers bench-drain doc

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build what is missing and run the product on this machine: http://localhost:7880 (ARGS='--bind ...')
	@exec $(target)/release/ratssaal serve --dev $(ARGS)

cluster: build ## A whole cluster on this machine: Redis, two allocators, three servers at two sites, live table
	@scripts/cluster

build: web ## Build the web client and the release binary
	@scripts/need rust
	@echo '==> Building the server (the first time takes some minutes, later seconds)'
	@cargo build --release --locked -p ratssaal

image: build ## The container image as an OCI archive, without a container engine
	@scripts/image $(ARGS)

web: web/dist/index.html ## Build the web client

test: ## Everything: format, lints, unit, integration, documentation, web client, browsers
	@scripts/test

lint: web/node_modules/.package-lock.json ## Format and lints only
	@scripts/need rust_checks
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --features ratssaal-bridge/bench -- -D warnings
	npm --prefix web run --silent lint
	npm --prefix web run --silent typecheck

e2e: web e2e/browser/node_modules/.package-lock.json ## Browser tests only (Chromium and Firefox)
	@scripts/need rust browsers network
	cargo build --locked -p ratssaal -p ratssaal-e2e --bins
	RATSSAAL_BIN=$(abspath $(target))/debug/ratssaal npm --prefix e2e/browser run --silent test

e2e-kubernetes: web e2e/browser/node_modules/.package-lock.json ## Charts and image on a real Kubernetes, built here once (Go; root for nodes)
	@scripts/need rust
	cargo build --locked -p ratssaal
	@RATSSAAL_BIN=$(abspath $(target))/debug/ratssaal node e2e/kubernetes/run.mjs $(SUITES)

audit: ## Licences, sources, bans and known vulnerabilities of all dependencies
	@scripts/audit

bench: build e2e/browser/node_modules/.package-lock.json ## Benchmarks; docs/benchmarks.md says how to read them
	@scripts/need browsers network
	cargo bench --workspace --locked --features ratssaal-bridge/bench
	RATSSAAL_BIN=$(abspath $(target))/release/ratssaal npm --prefix e2e/browser run --silent bench

bench-peers: build ## The same load on ours and on LiveKit's server, in turn; the table in docs/benchmarks.md (ARGS='--quick')
	@scripts/need node network
	RATSSAAL_BIN=$(abspath $(target))/release/ratssaal scripts/bench-peers $(ARGS)

bench-drain: build ## How long media is away when a server is drained, stopped or killed (ARGS='--rounds 3')
	@RATSSAAL_BIN=$(abspath $(target))/release/ratssaal scripts/bench-drain $(ARGS)

doc: ## Documentation of the code, in target/doc
	@scripts/need rust
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

web/dist/index.html: web/node_modules/.package-lock.json $(web_sources)
	@echo '==> Building the web client'
	@npm --prefix web run --silent build
	@touch $@

# npm writes this file last: it is there when the packages are, and older than the lock file when they are outdated.
%/node_modules/.package-lock.json: %/package-lock.json
	@scripts/need node
	@echo '==> Fetching the packages of $*'
	@npm --prefix $* ci --no-audit --no-fund --loglevel=error
	@touch $@
