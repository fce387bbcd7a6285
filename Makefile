# Everything a newcomer, a developer and CI need. `make` alone explains itself.
# Python 3.11+ and make are enough; the network is needed only until the packages are installed.

# The Python that makes .venv: the first suitable one, or yours: make serve PYTHON=/path/to/python3.12
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
# More options for pytest: make test-sqlite TESTS='tests/api -k accept'
TESTS ?=
# Folders of tests that never open a database: `make test` runs them once, on SQLite.
ENGINELESS := architecture clients geo media models worktime

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.NOTPARALLEL:

.PHONY: help
help: ## Show this list
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile

.PHONY: serve
serve: $(VENV)/.installed ## Start everything at http://127.0.0.1:8000: SQLite, demo community, worker, sandbox WeChat
	@exec $(BIN)/jincai serve

.PHONY: demo
demo: $(VENV)/.installed ## Tell the whole hazard story against the running server
	@exec $(BIN)/jincai demo

.PHONY: test
test: test-sqlite test-postgres ## Run the whole suite on SQLite and on PostgreSQL

.PHONY: test-sqlite
test-sqlite: $(VENV)/.installed-dev ## Run the suite on SQLite; options for pytest: TESTS='...'
	$(PYTEST) -n 2 --dist worksteal --engine sqlite -m "not slow" --ignore=tests/faults $(TESTS)

.PHONY: test-postgres
test-postgres: $(VENV)/.installed-dev ## Run the suite on a throwaway PostgreSQL
	$(PYTEST) -n 2 --dist worksteal --engine postgres -m "not slow" --ignore=tests/faults \
		$(if $(TESTS),$(TESTS),$(ENGINELESS:%=--ignore=tests/%))

.PHONY: check
check: $(VENV)/.installed-dev ## Check format, lint, types, migrations on both engines, OpenAPI, Dockerfile
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(PYTEST) --engine sqlite tests/migrations
	$(PYTEST) --engine postgres tests/migrations
	$(BIN)/jincai openapi --check
	$(BIN)/hadolint Dockerfile

.PHONY: format
format: $(VENV)/.installed-dev ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

.PHONY: lock
lock: $(VENV)/.installed-dev ## Resolve requirements*.in into requirements*.lock
	$(LOCK) requirements.in --output-file requirements.lock
	$(LOCK) requirements-dev.in --output-file requirements-dev.lock

.PHONY: bench
bench: $(VENV)/.installed-dev ## Measure the service beside a bare handler, on PostgreSQL and SQLite
	$(BIN)/python -m benchmarks

.PHONY: drill
drill: $(VENV)/.installed-dev ## Kill server and worker under load, generate requests for longer, on both engines
	$(PYTEST) --engine sqlite -m slow --ignore=tests/faults tests
	$(PYTEST) --engine postgres -m slow --ignore=tests/faults tests
	$(PYTEST) --engine sqlite --drill -s -o faulthandler_timeout=1800 tests/faults
	$(PYTEST) --engine postgres --drill -s -o faulthandler_timeout=1800 tests/faults
	CONTRACT_EXAMPLES=100 $(PYTEST) --engine sqlite tests/contract/test_schemathesis.py
	CONTRACT_EXAMPLES=100 $(PYTEST) --engine postgres tests/contract/test_schemathesis.py

.PHONY: clean
clean: ## Remove .venv, caches and the local database
	rm -rf $(VENV) var dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis
	find app tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || \
		{ echo "Python 3.11 or newer is needed and none was found; name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	@"$(PYTHON)" -m venv --clear $(VENV) || \
		{ rm -rf $(VENV); echo "Making $(VENV) failed. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing what the service needs (once, under a minute) ..."
	@$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing what tests and checks need (once, about a minute) ..."
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@
