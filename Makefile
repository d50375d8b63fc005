# Two buttons: `make check` only looks, `make fix` rewrites. `make demo` and `make test` do everything from a fresh clone.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Outside the clone, so that a second clone does not compile RocksDB again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/kindred/target
# Where scripts/setup notes a libclang that bindgen would not find by itself; absent where it would.
ENV_FILE := $(HOME)/.cache/kindred/env.mk
-include $(ENV_FILE)

KINDRED := $(CARGO_TARGET_DIR)/debug/kindred
SIM := $(CARGO_TARGET_DIR)/debug/sim
RUNS ?= 20
KILLS ?= 1000
SEED ?= 1
FUZZ_ROUNDS ?= 50
SEEDS ?= 1..10000
NETWORK ?= messages

.PHONY: help setup build demo test check tidy fix fuzz demo-soak kill-loops sim-smoke sim-sweep sim-mutants mutants-core \
	bench bench-compare

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup:
	@scripts/setup

# The recipes below run in a second make, which reads what setup wrote.
demo: setup ## three nodes, three regions, kills, and every sibling kept
	@$(MAKE) --no-print-directory build
	@"$(KINDRED)" demo

build:
	@scripts/first-build-notice
	@cargo build --workspace

test: setup ## check, simulations twice and a smoke sweep, then every test
	@scripts/first-build-notice
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory sim-smoke
	@$(MAKE) --no-print-directory .test

.PHONY: .test
.test:
	@cargo test --workspace

check: setup ## only looks: format, clippy with warnings as errors, tidy rules
	@cargo fmt --all --check
	@$(MAKE) --no-print-directory .clippy tidy

.PHONY: .clippy
.clippy:
	@cargo clippy --workspace --all-targets -- -D warnings

tidy:
	@cargo test --quiet --workspace --test tidy

fix: setup ## rewrites: clippy's own fixes, format
	@$(MAKE) --no-print-directory .fix
	@cargo fmt --all

.PHONY: .fix
.fix:
	@cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

demo-soak: setup ## RUNS demos in a row (20); histories stay in histories/
	@$(MAKE) --no-print-directory build
	@scripts/demo-soak "$(KINDRED)" "$(RUNS)"

kill-loops: setup ## KILLS processes (1000) killed under load, SEED (1); history and figures stay in histories/
	@$(MAKE) --no-print-directory build
	@mkdir -p histories
	@"$(KINDRED)" chaos --kills "$(KILLS)" --seed "$(SEED)" --history histories/kill-loops.jsonl --output json \
		| tee histories/kill-loops.json

sim-smoke: setup ## the same seeds in two processes first, then some fifty seeds in both simulated networks
	@$(MAKE) --no-print-directory build
	@"$(SIM)" twice --seeds 1..2 --network messages
	@"$(SIM)" twice crash --seeds 1..2 --network tonic
	@"$(SIM)" sweep --seeds 1..40 --network messages --gates operations,leaders
	@"$(SIM)" sweep --seeds 1..8 --network tonic --gates operations,leaders

sim-sweep: setup ## SEEDS (1..10000) in the simulated NETWORK (messages), all gates; the summary goes to sweeps/NETWORK
	@$(MAKE) --no-print-directory build
	@"$(SIM)" sweep --seeds "$(SEEDS)" --network "$(NETWORK)" --out "sweeps/$(NETWORK)"

sim-mutants: setup ## puts known bugs back, one at a time; each must be found; writes simulations/mutants.md
	@$(MAKE) --no-print-directory build
	@"$(SIM)" mutants $(MUTANTS)

fuzz: setup ## mangled bytes to every decoder, FUZZ_ROUNDS (50) times as many as `make test`, from FUZZ_SEED=n (clock)
	@scripts/first-build-notice
	@$(MAKE) --no-print-directory .fuzz

.PHONY: .fuzz
.fuzz: export FUZZ_ROUNDS := $(FUZZ_ROUNDS)
.fuzz: export FUZZ_SEED := $(or $(FUZZ_SEED),$(shell date +%s))
.fuzz:
	@echo "FUZZ_ROUNDS=$(FUZZ_ROUNDS) FUZZ_SEED=$(FUZZ_SEED) make fuzz repeats this run"
	@cargo test --workspace --quiet --no-fail-fast --test fuzz
	@cargo test --workspace --quiet --no-fail-fast --lib --bins --test store --test bad_input -- fuzz mangled

bench: setup ## links, validations, pairings, watches: per second and latency, three processes (BENCH=flags)
	@$(MAKE) --no-print-directory build
	@"$(KINDRED)" bench $(BENCH)

bench-compare: setup ## the same work by etcd, PostgreSQL and Redis; writes docs/performance.md (COMPARE=flags)
	@scripts/bench-peers
	@$(MAKE) --no-print-directory build
	@"$(KINDRED)" bench compare --plaintext --report docs/performance.md $(COMPARE)

mutants-core: setup ## changes core line by line and sees whether its tests notice; hours (CORE="--shard 0/8")
	@scripts/mutants-core $(CORE)
