# Two commands do everything: `make demo` and `make test`. Both make their own virtual environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip --quiet

# Tests often wait: they get more workers than there are cores, slow ones two for each.
CORES = $$(getconf _NPROCESSORS_ONLN)
WORKERS = $$(($(CORES) + 1))
WAITING = $$(($(CORES) * 2))

# Tests start the program some hundred times: it is compiled once.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo check test test-lowest lint bench bench-scrape bench-targets bench-hostile soak chaos docs dashboards manifests lock image-test tools clean

help:
	@echo "make demo   run the exporter against the bundled simulator"
	@echo "make check  lint, and every test that is quick"
	@echo "make test   run every check: ruff, layers of packages, mypy, pytest"
	@echo "make test-lowest  the tests of the program, with the lowest versions that pyproject.toml allows"
	@echo "make lint   ruff, layers of packages, mypy"
	@echo "make bench  run the benchmarks of docs/benchmarks.md (ten minutes)"
	@echo "make bench-scrape  what a scrape costs, beside a Go exporter and nginx (three minutes; see docs/benchmarks.md)"
	@echo "make bench-targets  what 1 to 1,000 targets cost (fifteen minutes; see docs/benchmarks.md)"
	@echo "make bench-hostile  what hostile clients cost (needs prometheus; fifteen minutes; see docs/security.md)"
	@echo "make soak   ten simulated days of a million jobs each, with faults (half an hour; see docs/proof.md)"
	@echo "make chaos  three replicas through kills, pauses, cuts and wrong clocks (needs postgresql; SEEDS=1-5 MINUTES=2)"
	@echo "make docs   write docs/metrics.md and exporter.schema.json again"
	@echo "make dashboards   write grafana/dashboards/*.json again"
	@echo "make manifests   write the PrometheusRule of deploy/kubernetes again"
	@echo "make lock   write requirements*.lock again, the image's packages: newest versions, with hashes"
	@echo "make image-test  build the Dockerfile without a container engine and run it (root on Debian, 2 minutes)"
	@echo "make clean  remove the virtual environment and caches"

demo: $(VENV)/installed
	@exec $(BIN)/metastudio-tts-exporter demo

check: lint
	$(BIN)/pytest -n $(WORKERS) -m 'not slow and not e2e and not program'

# Coverage costs time and is measured on what is quick: slow tests and whole programs run without. What is measured
# has some tests that need a core of their own.
test: tools lint
	$(BIN)/pytest -n auto -m 'not slow and not e2e' --cov --cov-report=term-missing --cov-fail-under=95
	$(BIN)/pytest -n $(WAITING) --dist worksteal --durations=25 -m 'slow or e2e'

# Left out: what needs other programs, or is about files that are no part of the program.
LOWEST := $(VENV)/lowest
test-lowest: $(VENV)/dev-installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[dev]'
	$(LOWEST)/bin/python -m pytest -n auto --ignore=tests/deploy --ignore=tests/grafana --ignore=tests/prometheus

lint: $(VENV)/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(VENV)/dev-installed
	$(BIN)/python -m benchmarks.poll_cost
	$(BIN)/python -m benchmarks.freshness
	$(BIN)/python -m benchmarks.page_cost
	$(BIN)/python -m benchmarks.process_cost
	$(BIN)/python -m benchmarks.memory_cost
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.publication

# The peers need Debian's golang-go, golang-github-prometheus-client-golang-dev and nginx-light; without, they are left out.
bench-scrape: $(VENV)/dev-installed
	$(BIN)/python -m benchmarks.scrape
	$(BIN)/python -m benchmarks.scrape.poll

bench-targets: $(VENV)/dev-installed
	$(BIN)/python -m benchmarks.targets

bench-hostile: $(VENV)/dev-installed
	$(BIN)/python -m benchmarks.hostile
	$(BIN)/python -m benchmarks.hostile --tls

soak: $(VENV)/dev-installed
	$(BIN)/python -m tests.soak.run

SEEDS ?= 1-5
MINUTES ?= 2
chaos: $(VENV)/dev-installed
	$(BIN)/python -m tests.e2e.chaos --seeds=$(SEEDS) --minutes=$(MINUTES)

docs: $(VENV)/installed
	$(BIN)/python docs/generate.py

dashboards: $(VENV)/dev-installed
	$(BIN)/python -m grafana.build

manifests:
	$(PYTHON) deploy/manifests.py

# For every Python and every platform at once; no address of a package index gets into the files.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock'
lock: $(VENV)/dev-installed
	$(LOCK) --extra postgres --output-file requirements.lock pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) --output-file requirements-build.lock -

image-test:
	@PYTHON=$(PYTHON) tests/image-test

# Prometheus, Alertmanager, Chromium and PostgreSQL for the tests, installed only by root on Debian; and in .tools a Prometheus 3.
tools:
	@tests/install-tools
	@tests/install-tools prometheus-3

# The editable install reads the source in place: only what pyproject.toml says needs another run.
$(VENV)/installed: pyproject.toml $(BIN)/python
	$(PIP) install -e .
	@touch $@

$(VENV)/dev-installed: pyproject.toml $(BIN)/python
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is missing or older than 3.11: install one, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@tests/install-tools venv $(PYTHON)
	$(PYTHON) -m venv --upgrade-deps $(VENV)

clean:
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
