# Two commands do everything on a machine with git, make and Python >= 3.11 (with python3-venv):
#   make demo   the product at work on a private server
#   make test   its tests
# Both make .venv when it is missing or older than pyproject.toml.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := -m pytest --numprocesses 4 --dist worksteal $(PYTEST_OPTIONS)

.PHONY: help demo test test-mysql conformance conformance-celery torture run-lock faults fuzz \
	adoption unique order bench bench-scale docs \
	matrix wheel mysqlclient beat pictures lint format clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1  \2/p' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## Show the product at work on a private server
	$(BIN)/python -m example_proj.demo

test: $(VENV)/.dev  ## Run the tests, with coverage, on the server that MYSQLLOCK_SERVER names
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-mysql: $(VENV)/.dev  ## Run the tests on a real MySQL, without coverage
	MYSQLLOCK_SERVER=mysql $(BIN)/python $(PYTEST)

mysqlclient: $(VENV)/.dev  ## Build the C driver, which some tests want (needs libmariadb-dev, gcc, pkg-config)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group mysqlclient

conformance: $(VENV)/.dev  ## Run kombu's own integration suite on the broker
	$(BIN)/python -m pytest tests/conformance/kombu_suite.py

conformance-celery: $(VENV)/.conformance  ## Run Celery's own (TESTS=...; 20 minutes; needs redis-server)
	$(BIN)/python -m tests.conformance.celery_suite $(TESTS)

torture: $(VENV)/.bench  ## Torture the locks (2 to 4 minutes)
	$(BIN)/python -m benchmarks.torture

run-lock: $(VENV)/.bench  ## Kill processes of the holders of mysqllock run (4 minutes)
	$(BIN)/python -m benchmarks.run_lock

faults: $(VENV)/.bench  ## Kill workers, producers, sessions and the server (2.5 minutes)
	$(BIN)/python -m benchmarks.faults

fuzz: $(VENV)/.demo  ## Throw 200,000 odd rows at three workers (ROWS=, SEED=; 15 minutes)
	$(BIN)/python -m benchmarks.fuzz $(if $(ROWS),--rows $(ROWS)) $(if $(SEED),--seed $(SEED))

unique: $(VENV)/.demo  ## 64 processes send the same 1,000 unique tasks at once (1 minute)
	$(BIN)/python -m benchmarks.unique

adoption: $(VENV)/.demo  ## Adopt a table in use: old programs and workers at once (1 minute)
	$(BIN)/python -m benchmarks.adoption

order: $(VENV)/.bench  ## Kill workers that run jobs in order, and measure the cost of order (4 minutes)
	$(BIN)/python -m benchmarks.order

bench: $(VENV)/.bench  ## Measure beside Redis, RabbitMQ and SQLAlchemy (11 minutes)
	$(BIN)/python -m benchmarks.broker $(if $(PICTURES),--pictures $(PICTURES))
	$(BIN)/python -m benchmarks.locks

bench-scale: $(VENV)/.bench  ## Backlogs to 5e6 rows, fleets to 32, 1e5 delayed tasks (2 minutes)
	$(BIN)/python -m benchmarks.broker.scale

beat: $(VENV)/.demo  ## Kill the active one of three beats every 20 s (10 minutes)
	$(BIN)/python -m benchmarks.beat

docs: $(VENV)/.docs  ## Build the documentation as a site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

wheel: $(VENV)/.matrix  ## Build the wheel, install it into a fresh environment, test it there (3 minutes)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.matrix --here

matrix: $(VENV)/.matrix  ## Test the wheel on each Python that is here (3 minutes each)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.matrix

pictures: $(VENV)/.bench  ## Draw top.svg and web-*.png of a busy fleet (1 minute; needs Chromium)
	$(BIN)/python -m benchmarks.pictures

lint: $(VENV)/.dev  ## Check style, types and imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Put the code into shape
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:  ## Remove everything that make has made
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	rm -rf build dist

# A .venv is made anew, with venv --clear, when its python or pip does not run (half made, or made by
# a Python that is gone), or when it was moved: its programs have the old path in their first line.
BROKEN := $(if $(wildcard $(VENV)/.demo),$(shell $(BIN)/python -c 'import pip' >/dev/null 2>&1 \
	&& test "$$(cat $(VENV)/.place 2>/dev/null || echo '$(CURDIR)')" = '$(CURDIR)' || echo broken))

.PHONY: anew
anew:

$(VENV)/.demo: pyproject.toml $(if $(BROKEN),anew)
	@test -z "$(BROKEN)" && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
			echo '$(PYTHON) cannot make a virtual environment: install python3-venv (apt install python3-venv).' >&2; \
			exit 1; }; \
		$(PYTHON) -m venv --clear $(VENV); }
	@echo '$(CURDIR)' >$(VENV)/.place
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.bench: $(VENV)/.demo
	$(BIN)/python -m pip install --disable-pip-version-check --group bench
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --disable-pip-version-check --group dev
	@touch $@

$(VENV)/.conformance: $(VENV)/.dev
	$(BIN)/python -m pip install --disable-pip-version-check --group conformance
	@touch $@

$(VENV)/.docs: $(VENV)/.demo
	$(BIN)/python -m pip install --disable-pip-version-check --group docs
	@touch $@

$(VENV)/.matrix: $(VENV)/.dev
	$(BIN)/python -m pip install --disable-pip-version-check --group matrix
	@touch $@
