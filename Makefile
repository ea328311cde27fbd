# `make demo` needs only Python 3.11 or newer; everything else is installed into .venv.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
JEPSEN := $(VENV)/.jepsen-installed
BENCH := $(VENV)/.bench-installed

.PHONY: help venv demo test lint transcripts sim mutants coverage jepsen proto bench profile clean

help:
	@echo "make demo         three servers on this machine, a guided tour (installs what it needs)"
	@echo "make test         all quick tests"
	@echo "make lint         format, types, import contracts, generated code"
	@echo "make transcripts  the Raft core against etcd-io/raft's transcripts"
	@echo "make sim          the long random workloads; SIM='--seeds 2000 --minutes 600' for more"
	@echo "make mutants      break the code in many ways, one at a time: some test must notice each"
	@echo "make coverage     the branches of the consensus and what carries it that no test takes"
	@echo "make jepsen       ten minutes of faults on real servers, and what they broke"
	@echo "make bench        throughput, latency and costs beside the real etcd, a quarter of an hour"
	@echo "make profile      where the leader's processor time goes"
	@echo "make proto        generate dqlite_py/pb again after a change in proto/"
	@echo "make venv         .venv with everything for development"

$(RUNTIME): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[speed]'
	@touch $@

$(DEV): $(RUNTIME)
	$(PIP) -e '.[speed,dev]'
	@touch $@

SECONDS_A_CELL ?= 60

$(JEPSEN): $(RUNTIME)
	$(PIP) -e '.[speed,jepsen]'
	@touch $@

$(BENCH): $(DEV)
	$(PIP) -e '.[speed,dev,bench]'
	@touch $@

venv: $(DEV)

demo: $(RUNTIME)
	$(BIN)/dqlite-py demo

test: $(DEV)
	$(BIN)/python -m pytest

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check

transcripts: $(DEV)
	$(BIN)/python -m pytest tests/raft/test_raft_transcripts.py

sim: $(DEV)
	$(BIN)/python -m pytest --long -m long
	$(BIN)/python -m tests.simulation $(SIM)

mutants: $(DEV)
	$(BIN)/python -m tests.mutants

coverage: $(DEV)
	$(BIN)/python -m tests.branches

jepsen: $(JEPSEN)
	$(BIN)/python -m jepsen matrix --core --seconds $(SECONDS_A_CELL) --report

proto: $(DEV)
	$(BIN)/python proto/generate.py

bench: $(BENCH)
	$(BIN)/python -m bench run $(BENCH_OPTIONS)

profile: $(BENCH)
	$(BIN)/python -m bench profile

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
