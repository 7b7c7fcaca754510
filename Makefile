# `make demo` and `make test` work on a fresh machine that has only python3 (with venv) and a network.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=
# Also for what pip installs to build the package, which `-c` does not reach.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: setup demo test lint lab bench bounds samples clean

setup: $(STAMP)

# torch first and pinned, so that nothing pulls a CUDA build by accident.
$(STAMP): pyproject.toml constraints.txt hatch_build.py js/package-lock.json js/build.mjs $(wildcard js/src/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[all]'
	touch $(STAMP)

demo: setup
	$(BIN)/workbench demo

test: setup lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: setup
	$(BIN)/workbench lab

bench: setup
	$(BIN)/python -m pytest tests/benchmarks -o timeout=0 -o pythonpath=tests/benchmarks -o python_files='bench_*.py' -s $(PYTEST_ARGS)

# Installs the oldest and the newest versions that pyproject.toml allows, each into a new environment, and tries them.
bounds: setup
	$(BIN)/python -m tests.support.bounds lowest
	$(BIN)/python -m tests.support.bounds newest

# Regenerates the committed .onnx files of the sample models.
samples: setup
	$(BIN)/python sample_models/make_onnx.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
