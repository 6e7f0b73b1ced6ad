# The front door. Each target installs what it needs first and says so.
#
#   make demo     watch a real feed in three minutes (DEMO_CHECK=1: check it and stop)
#   make test     everything that must pass before a change lands
#   make bench    speed and memory, with peers beside us
#   make overload a small machine with 64 cameras under attack, 15 minutes (as root)
#   make faults   kills, power cuts (as root), full, failing and slow disks: longer than make test
#   make fuzz     every parser of outside bytes, FUZZ_SECONDS each (60)
#   make soak     SOAK_MINUTES (60) of recording with churn; memory and descriptors must stay flat

SHELL := /bin/bash
CARGO ?= cargo
CLIPS := $(CURDIR)/.cache/clips
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 60
PYTHON := $(CURDIR)/.cache/python
export KINORA_CLIPS := $(CLIPS)
export KINORA_PYTHON := $(PYTHON)

.PHONY: demo build release web clips python test test-web bench overload faults fuzz soak lint clean

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci
	touch $@

web/dist/index.html: web/node_modules/.package-lock.json web/index.html web/vite.config.js web/tsconfig.json $(shell find web/src -type f)
	cd web && npm run build

web: web/dist/index.html

build: web
	scripts/packages build
	$(CARGO) build --locked

release: web
	scripts/packages build
	$(CARGO) build --locked --release

clips:
	scripts/packages demo
	scripts/clips $(CLIPS) test

python:
	scripts/packages test
	scripts/python $(PYTHON) samples

demo:
	scripts/packages demo
	scripts/clips $(CLIPS) demo
	@$(MAKE) --no-print-directory release
	@scripts/demo target/release/kinora $(CLIPS)/demo.mp4

lint: web
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

test: web
	scripts/packages test
	scripts/clips $(CLIPS) test
	scripts/python $(PYTHON) samples
	$(CARGO) build --locked
	$(CARGO) test --locked --workspace
	@$(MAKE) --no-print-directory test-web

test-web: build
	scripts/packages test
	scripts/clips $(CLIPS) test
	cd web && KINORA=$(CURDIR)/target/debug/kinora npm test

bench: release
	scripts/packages bench
	scripts/clips $(CLIPS) bench
	scripts/python $(PYTHON) bench
	benches/run target/release/kinora $(CLIPS)

overload: release
	scripts/packages test
	scripts/clips $(CLIPS) bench
	scripts/python $(PYTHON) samples
	benches/run target/release/kinora $(CLIPS) small

faults: release
	scripts/packages test
	scripts/clips $(CLIPS) test
	tests/faults/run target/release/kinora $(CLIPS)

fuzz:
	tests/fuzz/run $(FUZZ_SECONDS)

soak: release
	scripts/packages test
	scripts/clips $(CLIPS) test
	tests/faults/soak target/release/kinora $(CLIPS) $(SOAK_MINUTES)

clean:
	$(CARGO) clean
	rm -rf web/dist web/node_modules .cache
