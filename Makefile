# Everything starts here: `make demo` shows it, `make test` tests it. Wants Python 3.11+ and make.
PYTHON ?= python3
PROJECT ?= .
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet

.DEFAULT_GOAL := help
.PHONY: help install demo serve test soak needs lint format bench docs lock

help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

install: $(VENV)/.base ## .venv from the pinned requirements, with querycache in it

demo: install ## index PROJECT (default: this repository), ask, and show what the cache saved
	@$(BIN)/querycache demo "$(PROJECT)"

serve: install ## HTTP and MCP for PROJECT on port 8000
	@$(BIN)/querycache serve "$(PROJECT)"

test soak: export PYTHONDONTWRITEBYTECODE :=  # hundreds of processes start, each with all modules

test: needs $(VENV)/.dev ## the whole suite but the soak
	@status=0; \
	$(PYTEST) -m "not alone and not soak" -n logical --maxprocesses 4 --dist worksteal || status=1; \
	$(PYTEST) -m "alone and not soak" || status=1; \
	exit $$status

soak: needs $(VENV)/.dev ## faults and fuzzing at full size; what the faults did: docs/reliability.md
	@rm -f $(VENV)/faults.jsonl
	FAULT_REPORT=$(CURDIR)/$(VENV)/faults.jsonl $(PYTEST) -m soak --timeout=1200; \
	status=$$?; $(BIN)/python docs/fault_report.py $(VENV)/faults.jsonl; exit $$status

lint: $(VENV)/.dev ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the sources into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.bench ## measure, on this machine, against peers (TRACES: a folder of recorded ones)
	$(BIN)/python bench/report.py $(if $(TRACES),--traces "$(TRACES)")

docs: $(VENV)/.dev ## docs/reference, from the code, and the site, in site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: ## pin requirements/*.txt anew (wants uv)
	requirements/lock.sh

needs:
	@tests/needs.sh chromium git openssl redis-server redis-cli

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"querycache needs Python 3.11 or later, and this is %s; say which to use: make PYTHON=python3.12" \
	% sys.version.split()[0])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "$(PYTHON) can not make environments: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }

$(VENV)/.base: requirements/base.txt pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes -r requirements/base.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.base
	$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.base
	$(PIP) --require-hashes -r requirements/bench.txt
	@touch $@
