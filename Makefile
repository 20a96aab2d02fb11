# Every target does its own set-up on a fresh Debian machine (tools/setup.sh). `make help` lists them.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test verify lint fix sim mutants golden bench lab faults docs endurance

PY := .venv/bin/python
# Hundreds of our processes are started: none of them compiles the sources anew, nor leaves anything beside them.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
export PYTHONDONTWRITEBYTECODE :=
SEEDS ?= 100
ROUNDS ?= 10
SIM_SECONDS ?= 90
PARALLEL := -n 4 --dist loadfile
# Stories of disks and clocks mostly wait, and have no bound that a busy machine could miss.
WAITING := -n 3 --dist load

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16

setup:
	@tools/setup.sh

demo: setup ## a real 3-member cluster and workers whose leader is killed, here, in under a minute
	@.venv/bin/tenure demo

test: ## everything that CI runs: style, types, layers, simulation, and all tests with real processes
	@tools/setup.sh test
	@$(MAKE) --no-print-directory lint
	@$(PY) -m tests.sim --kept --seeds code:100000 --budget-seconds $(SIM_SECONDS)
	@$(PY) -m pytest -q $(PARALLEL) -m "not e2e"
	@$(PY) -m pytest -q -m "e2e and not integration"
	@$(PY) -m pytest -q $(WAITING) -m "e2e and integration"

verify: setup lint ## read-only gate in under 2 minutes: style, types, layers, unit and golden tests, a short simulation
	@$(PY) -m tests.sim --kept --seeds code:100000 --budget-seconds 8
	@$(PY) -m pytest -q $(PARALLEL) -p no:cacheprovider -m "not e2e and not integration and not slow"

lint: setup
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/lint-imports --no-cache --no-logo
	@$(PY) tools/check_style.py
	@$(PY) tools/check_docs.py

fix: setup ## format and mend what ruff can mend
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format --quiet .

sim: setup ## simulate SEEDS=100 (or A..B) under faults, SHARD=K/N of them, resumable with PROGRESS=file (SUMMARY="files" adds up), COMPILED=yes|no|auto; or tell SEED=… (ABOUT=m1,t7)
	@$(PY) -m tests.sim --seeds $(SEEDS) $(if $(SHARD),--shard $(SHARD) --jobs 1) $(if $(PROGRESS),--progress $(PROGRESS)) \
		--compiled $(or $(COMPILED),auto) $(if $(SEED),--seed $(SEED)) $(if $(ABOUT),--about $(ABOUT)) $(if $(SUMMARY),--summary $(SUMMARY))

mutants: setup ## plant each deliberate bug in a copy and see that a test kills it (TABLE=docs/mutants.md keeps the report)
	@$(PY) tools/mutants.py $(ONLY) $(if $(TABLE),--table $(TABLE))

golden: setup ## rewrite the outputs of the golden scripts, to be reviewed as a diff
	@TENURE_GOLDEN=rewrite $(PY) -m pytest -q tests/raft/test_golden.py ; git --no-pager diff --stat -- '*.txt'

bench: ## Tenure and etcd side by side, ROUNDS=10 interleaved rounds
	@tools/setup.sh bench
	@$(PY) -m bench.run --rounds $(ROUNDS) $(ARGS)

endurance: setup ## a million writes over 10 000 keys: disk, memory, lateness, catch-up, restarts (ARGS=…)
	@$(PY) -m bench.endurance $(ARGS)

lab: setup ## real members in network namespaces: fail-over in round trips, loss, partitions (ARGS=…, docs/lab.md)
	@$(PY) -m lab $(ARGS)

faults: ## ROUNDS=300 each of kill, stop, partition, disk and clock faults with 3 and 5 members; resumable (ARGS=…)
	@tools/setup.sh test
	@$(PY) -m tests.e2e.campaign --rounds $(ROUNDS) $(ARGS)

docs: setup ## check the links and the size limits of the documents
	@$(PY) tools/check_docs.py
