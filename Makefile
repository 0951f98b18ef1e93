# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each target makes its own .venv when there is none, and brings it up to date when pyproject.toml changes.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# How many test processes; empty for one (`make test JOBS=`).
JOBS   ?= 2
# Extra arguments: `make test ARGS="-k filters -x"`, `make demo ARGS="--limit 2000"`.
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check bench format clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/.stamp-cli ## Index the standard library's docstrings, ask, save, ask again from a second process
	$(BIN)/zeusdb-vs demo $(ARGS)

test: $(VENV)/.stamp-dev ## Run the tests
	$(BIN)/python -m pytest $(if $(JOBS),-n $(JOBS)) $(ARGS)

check: $(VENV)/.stamp-dev ## Lint, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

bench: $(VENV)/.stamp-bench ## Compare with hnswlib, faiss-cpu and ZeusDB (installs them)
	$(BIN)/python -m benchmarks $(ARGS)

format: $(VENV)/.stamp-dev ## Rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of extras, so that `make demo` does not install the test tools.
$(VENV)/.stamp-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "zeusdb-vs needs Python 3.10 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "$(PYTHON) -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
