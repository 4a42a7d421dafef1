# make test, make check: all that a change must pass. Everything they need is installed into .venv by themselves.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Every command here starts Python, and many of them start others: all find the bytecode of the first.
export PYTHONDONTWRITEBYTECODE :=
# What mkdocs-material says of its end is known: CONTRIBUTING.md, "The documentation site".
export NO_MKDOCS_2_WARNING := 1
# How many tests run at once: one more than the processors of CI, since many tests wait for processes that they start.
WORKERS ?= 3
# Extra words for pytest: make test ARGS="-k lease -x"
ARGS ?=

.PHONY: help install demo test coverage test-engine test-newest check format docs bench pins clean

help: ## say what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(VENV)/installed ## make .venv with everything in it

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV) (about two minutes, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed ## run a cycle on a made-up portfolio and show what is recorded
	$(BIN)/irp demo

test: $(VENV)/installed ## run the suite on a PostgreSQL of its own; Oasis LMF runs uncompiled
	$(BIN)/python -m pytest -m 'not engine' -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report= $(ARGS)
	@echo "Branch coverage: $$($(BIN)/coverage report --format=total) %. What is not covered: make coverage"

coverage: ## show the lines and branches that the last make test did not reach
	@$(BIN)/coverage report --skip-covered --show-missing

test-engine: $(VENV)/installed ## run the demo with Oasis LMF compiled, beside Oasis LMF by hand (minutes, once)
	$(BIN)/python -m pytest -m engine -o faulthandler_timeout=2400 irp_pipeline_tests/acceptance $(ARGS)

test-newest: ## run the suite with the newest Dagster there is, past the cap of pyproject.toml, in .venv-newest
	@$(MAKE) VENV=.venv-newest install
	.venv-newest/bin/python -m pip install -qq --disable-pip-version-check --upgrade dagster dagster-postgres dagster-webserver dagster-dg-cli
	@$(MAKE) VENV=.venv-newest test

check: $(VENV)/installed ## formatting, lint, types, and which module may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed ## format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/installed ## build the documentation site into site/
	@$(BIN)/python -m mkdocs build --strict --quiet
	@echo "Built. Open site/index.html in a browser."

bench: $(VENV)/installed ## measure against the targets of docs/benchmarks.md (some minutes)
	$(BIN)/python -m irp_pipeline_tests.benchmarks $(ARGS)

pins: $(VENV)/installed ## write the installed versions to constraints.txt
	@{ head -1 constraints.txt; $(BIN)/python -m pip list --format=freeze | grep -viE '^(irp[-_]pipeline|pip|setuptools|wheel)=='; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove .venv and what the tools leave behind; never .irp, where the data is
	rm -rf $(VENV) .venv-newest site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
