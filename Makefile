# `make run` and `make test` are all that a newcomer needs; the rest is for those who stay.

SHELL := /bin/bash
CARGO ?= cargo
LISTEN ?= 127.0.0.1:8080
DATA ?= ./data
SEEDS ?= 200
TARGET ?= segment
SCALE ?= standard
SECONDS ?= 60
RUNS ?= perf/runs/$(shell date +%F)

# What the programs say that they were built from, `-dirty` behind it where files had been changed.
BUILD_REVISION ?= $(shell git describe --exclude '*' --always --dirty --abbrev=12 2>/dev/null || echo unknown)
export BUILD_REVISION := $(BUILD_REVISION)

.PHONY: suite run build test deps fmt lint unit sim sim-store fuzz deny micro perf-gate long-soak long-million long-most long-storm

## run: build, then serve on http://127.0.0.1:8080 with data in ./data
run: build
	@echo "Throng is on http://$(LISTEN) with its data in $(DATA). To chat, in two other terminals:"
	@echo "  target/release/throng chat --target http://$(LISTEN) --register --user alice    then /create home and /invite"
	@echo "  target/release/throng chat --target http://$(LISTEN) --register --user bob      then /join CODE"
	@target/release/throng serve --listen $(LISTEN) --data $(DATA)

## build: the release binaries, throng and throng-bench
build: deps
	$(CARGO) build --release --locked --workspace --bins

## test: formatting, lints and every test; what CI runs
test: deps fmt lint unit

fmt:
	$(CARGO) fmt --all --check

# The same profile as the tests and the binaries: one set of compiled dependencies.
lint:
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

unit: build
	$(CARGO) test --release --locked --workspace

## suite: every benchmark in one report, in suite.json and suite.html (make suite SCALE=smoke)
suite: build
	target/release/throng-bench suite --scale $(SCALE) --json suite.json --html suite.html

## sim: many seeds of the simulation (make sim SEEDS=10000)
sim: deps
	THRONG_SIM_SEEDS=$(SEEDS) $(CARGO) test --release --locked -p throng --test sim -- --nocapture seeds

## sim-store: many seeds of the store's fault simulation (make sim-store SEEDS=10000)
sim-store: deps
	THRONG_SIM_STORE_SEEDS=$(SEEDS) $(CARGO) test --release --locked -p throng-storage-engine --test sim_store -- --nocapture seeds::seeds

## fuzz: any bytes as a file of the store (make fuzz TARGET=segment SECONDS=60; needs cargo-fuzz and a nightly toolchain)
fuzz: deps
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is needed: cargo install --locked cargo-fuzz"; exit 1; }
	mkdir -p storage-engine/fuzz/corpus/$(TARGET) && cp -n storage-engine/golden/* storage-engine/fuzz/corpus/$(TARGET)/
	cd storage-engine && $(CARGO) +nightly fuzz run $(TARGET) -- -max_total_time=$(SECONDS) -max_len=65536

## deny: licences, bans and sources of the dependencies (needs cargo-deny)
deny:
	$(CARGO) deny --locked check licenses bans sources

## micro: the time that frames, commands, events, routes, commits, pages and messages take by themselves
micro: deps
	$(CARGO) bench --locked --workspace --bench wire --bench route --bench store --bench shard

## perf-gate: counts the instructions of the hot paths, fails when one grew by more than 2 %; UPDATE=1 makes this the baseline
perf-gate: deps
	@command -v valgrind >/dev/null || { apt-get update -qq && apt-get install -y -qq valgrind; }
	@CARGO=$(CARGO) perf/gate.sh $(if $(UPDATE),--update)

## long-soak: 30 minutes of mixed chat of 50,000 sessions; the report goes to $(RUNS)-soak. Its caches are so small
## that they are full when it begins to look at memory.
long-soak: build
	SESSIONS=50000 SETTINGS="THRONG_STORE__CACHE_BYTES=4194304 THRONG_STORE__RECENT_BYTES=4194304" \
		perf/swarm.sh $(RUNS)-soak soak --connections 50000 --duration 30m --rate 1500 \
		--churn 100 --slow 20 --malformed 20

## long-million: 1,000,000 sessions for 10 minutes, then a message to all, then 10,000 messages/s
long-million: build
	SESSIONS=1000000 NAME=million SETTINGS="THRONG_LIMITS__ACCESS_ENTRIES_MAX=8388608" \
		perf/swarm.sh $(RUNS)-million idle --connections 1000000 --duration 10m \
		--then-broadcast --then-rest 10s --then-rate 10000 --then-duration 60s

## long-most: 2,300,000 sessions, heartbeats every 60 s (dense mode at both ends; takes 24 GiB)
long-most: build
	SESSIONS=2300000 NAME=most SETTINGS="THRONG_SOCKETS__MODE=dense THRONG_HEARTBEAT_S=60 THRONG_LIMITS__ACCESS_ENTRIES_MAX=16777216" \
		perf/swarm.sh $(RUNS)-most idle --connections 2300000 --duration 2m --connect-timeout 20m

## long-storm: 100,000 sessions lose their connections at once and come back: to a server that restarts, and to one that does not
long-storm: build
	SESSIONS=100000 perf/swarm.sh $(RUNS)-storm storm --connections 100000
	SESSIONS=100000 NAME=storm-drop perf/swarm.sh $(RUNS)-storm storm --connections 100000 --drop

# A C compiler builds the embedded SQLite.
deps:
	@command -v cc >/dev/null || { apt-get update -qq && apt-get install -y -qq build-essential; }
	@command -v $(CARGO) >/dev/null || { echo "cargo is needed: install the Rust toolchain (rustup.rs)"; exit 1; }
