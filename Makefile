# `make` alone says what there is. Two commands are all that is needed: `make run`, `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Recipes share one target folder; cargo does its own work in parallel.
.NOTPARALLEL:

SEED ?=
WORLDS ?=
ROUNDS ?= 200
BENCH_ROUNDS ?= 5

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  UPSTREAM=URL (run), SEED=n and WORLDS=n (sim), ROUNDS=n (soak)'

.PHONY: build
build: ## the release binary
	cargo build --release --locked --bin semel

.PHONY: run
run: build ## build and run before UPSTREAM=http://…, or before the practice payment API
	@exec scripts/run.sh target/release/semel '$(UPSTREAM)'

.PHONY: setup
setup: ## install what the tests need and this machine lacks (Debian packages, the providers' SDKs)
	@scripts/setup-tests.sh redis-server strace curl
	@scripts/setup-sdks.sh

.PHONY: test
test: setup ## install what is missing and run all tests
	@scripts/test.sh --locked

.PHONY: check
check: fmt lint doc test ## what a change must pass: format, lints, docs, all tests

.PHONY: fmt
fmt: ## is everything formatted?
	cargo fmt --check

.PHONY: lint
lint: ## clippy, warnings are errors
	cargo clippy --locked --all-targets -- -D warnings

.PHONY: doc
doc: ## the docs build without a warning
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --no-deps --document-private-items

.PHONY: tidy
tidy: ## imports point down, files are short, links lead somewhere
	@scripts/test.sh --locked --test tidy

.PHONY: drill
drill: setup ## real processes: kill, pause, restart, cut
	@SHOW=1 scripts/test.sh --locked --test drill

.PHONY: model
model: ## the protocol, model-checked
	@SHOW=1 scripts/test.sh --locked --test model

.PHONY: sim
sim: ## the whole proxy in seeded worlds: SEED=n replays one, WORLDS=n says how many
	@$(if $(SEED),SEMEL_SIM_SEED='$(SEED)') $(if $(WORLDS),SEMEL_SIM_WORLDS='$(WORLDS)') \
		SHOW=1 scripts/test.sh --locked --test simulation

.PHONY: soak
soak: setup ## the drills for long: ROUNDS=n
	@NEXTEST_PROFILE=soak SEMEL_SOAK=1 SEMEL_SOAK_ROUNDS='$(ROUNDS)' scripts/test.sh --locked --test integration --test drill --test model

.PHONY: golden
golden: ## write the files anew that tests compare with
	@SEMEL_GOLDEN=write scripts/test.sh --locked --test golden

.PHONY: bench-build
bench-build:
	cargo build --release --locked --bins

.PHONY: bench
bench: bench-build ## semel beside its peers, 20 minutes on two quiet cores: ONLY=S2,S3 BENCH_ROUNDS=n
ifdef ONLY
	@python3 bench/load --only '$(ONLY)' --rounds '$(BENCH_ROUNDS)' --out target/bench/some.json
else
	@python3 bench/load --rounds '$(BENCH_ROUNDS)'
	@python3 bench/load/report.py target/bench
endif

.PHONY: bench-growth
bench-growth: bench-build ## semel on stores that have kept up to a million operations
	@python3 bench/load --only S6 --rounds 3 --out target/bench/growth.json
	@python3 bench/load/report.py target/bench

.PHONY: bench-micro
bench-micro: ## criterion on the pieces of the path, and on the path without sockets
	cargo bench --locked --bench micro

.PHONY: bench-instructions
bench-instructions: build ## instructions, system calls and allocations per request
	@scripts/setup-tests.sh valgrind strace redis-server
	@bench/micro/instructions.py target/release/semel

.PHONY: bench-setup
bench-setup: ## install what `make bench` measures with and beside (Debian packages, Envoy, oha, idempotent-proxy)
	@bench/setup.sh

.PHONY: audit
audit: ## licences, sources and advisories (wants cargo-deny)
	cargo deny check

.PHONY: forget
forget: ## remove the records that `make run` made in ./semel-data
	rm -rf semel-data
