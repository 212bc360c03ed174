PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ON_EVERY_BACKEND = tests/layers tests/conformance tests/analysis/test_degree.py tests/metrics \
	tests/test_keras_private.py
QUICK = tests/layers tests/mesh tests/conformance/test_build.py tests/conformance/test_config.py \
	tests/conformance/test_degree.py tests/conformance/test_coverage.py tests/analysis/test_degree.py \
	tests/documented_errors tests/test_rooms.py tests/test_keras_private.py
# Of what is run once, compiling is most of the time.
QUICK_COMPILE = --xla_backend_optimization_level=0
# TensorFlow's notes about the machine would hide what the commands print.
export TF_CPP_MIN_LOG_LEVEL ?= 2

# On a terminal pip shows what it downloads.
QUIET = $(if $(MAKE_TERMOUT),,--quiet)

.NOTPARALLEL:
.PHONY: help demo test test-quick test-tensorflow test-extension test-jax test-torch test-long test-long-runs test-long-rest test-long-jax lint clean

help:
	@echo "make demo        set up, train on real data, export, verify, show the result"
	@echo "make test        set up, run the whole suite"
	@echo "make test-quick  set up, run a part of the suite that takes less than a minute"
	@echo "make test-long   set up, run the tests that take minutes"
	@echo "make lint        set up, run ruff and mypy alone"
	@echo "make clean       remove what the demo wrote; the environment stays"

demo: $(VENV)/.ready-examples-tflite
	$(BIN)/python examples/demo.py

# All parts are run, also after one that fails.
test: $(VENV)/.ready-test
	@$(MAKE) --keep-going --no-print-directory lint test-tensorflow test-extension test-jax test-torch

test-tensorflow: $(VENV)/.ready-test
	XLA_FLAGS=$(QUICK_COMPILE) $(BIN)/python -m pytest -n 2 --dist worksteal

# The guarantees of every layer, for layers that the package has never seen.
test-extension: $(VENV)/.ready-test
	XLA_FLAGS=$(QUICK_COMPILE) $(BIN)/python -m pytest -n 2 --dist worksteal tests/conformance --cases=tests.extension.cases

# While one works: the mathematics, the words of errors and the rooms.
test-quick: $(VENV)/.ready-test
	XLA_FLAGS=$(QUICK_COMPILE) $(BIN)/python -m pytest -n 2 --dist worksteal $(QUICK)

test-jax: $(VENV)/.ready-test
	KERAS_BACKEND=jax XLA_FLAGS=$(QUICK_COMPILE) $(BIN)/python -m pytest -n 2 --dist worksteal $(ON_EVERY_BACKEND)

test-torch: $(VENV)/.ready-test
	@if $(BIN)/python -c "import torch" 2>/dev/null; then \
		KERAS_BACKEND=torch $(BIN)/python -m pytest -n 2 $(ON_EVERY_BACKEND); \
	else echo "torch is not installed: its backend was not tested"; fi

# In parts that can be run by themselves, all of them also after one that fails.
test-long: $(VENV)/.ready-test
	@$(MAKE) --keep-going --no-print-directory test-long-runs test-long-rest test-long-jax

# Kills, hosts and interruptions, one after another.
test-long-runs: $(VENV)/.ready-test
	$(BIN)/python -m pytest -m long tests/training tests/examples tests/test_readme.py

test-long-rest: $(VENV)/.ready-test
	XLA_FLAGS=$(QUICK_COMPILE) $(BIN)/python -m pytest -m long -n 2 --dist worksteal tests \
		--ignore=tests/training --ignore=tests/examples --ignore=tests/test_readme.py

test-long-jax: $(VENV)/.ready-test
	KERAS_BACKEND=jax XLA_FLAGS=$(QUICK_COMPILE) $(BIN)/python -m pytest -n 2 tests/analysis tests/models tests/extension

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf demo_output

# .ready-a-b stands for an environment in which the package is installed with its extras a and b.
$(VENV)/.ready-%: setup.py pyproject.toml | $(VENV)/bin/python
	@echo "Installing pinets_tf[$(subst -,$(comma),$*)] into $(VENV); TensorFlow is a download of 600 MB the first time"
	@$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check --editable ".[$(subst -,$(comma),$*)]"
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pinets_tf needs Python 3.11 or newer. Received: " + sys.version.split()[0] + ". Pass another one: make demo PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)

comma := ,
