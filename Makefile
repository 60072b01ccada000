# What users, developers and CI run.

PYTHON := .venv/bin/python
# Go may come from the virtual environment: see scripts/setup.
export PATH := $(PATH):$(CURDIR)/.venv/bin

C_FILES := $(wildcard bpf/*.[ch] bpf/bcc/*.[ch] tests/vmtest/programs/*.[ch])

.PHONY: help
help:
	@echo "make demo              one real OOM kill, from the kernel to OTLP, on screen"
	@echo "make demo ENDPOINT=URL the same, and on to your own OTLP backend"
	@echo "make check             style, types, and tests without root, guests and servers: a minute"
	@echo "make test              make check, and the tests on real kernels, containers and servers"
	@echo "make test-faults       inject every fault in full and write the table in docs/reliability.md"
	@echo "make bench             measure the budgets and print a table (JSON=1: JSON; WRITE=1: docs/performance.md)"
	@echo "make matrix            run every kernel and write the table in docs/kernels.md"
	@echo "make docs              write the generated parts of docs/"
	@echo "make lint | format | lock | clean"

.PHONY: demo
demo:
	@scripts/setup demo
	@$(if $(ENDPOINT),OTEL_EXPORTER_OTLP_ENDPOINT="$(ENDPOINT)") .venv/bin/otel-oom demo

# Tests that need neither root nor a virtual machine nor a server, and take no more than moments.
QUICK := not (root or vm or servers or slow)

.PHONY: check
check: setup-check
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint test-quick

.PHONY: test-quick
test-quick: setup-check
	$(PYTHON) -m pytest -n 4 --dist worksteal -m "$(QUICK)" --cov=otel_oom --cov-report=term:skip-covered -q

.PHONY: test
test: setup-test check
	$(PYTHON) -m pytest -m "not ($(QUICK))"

.PHONY: test-faults
test-faults: setup-test
	$(PYTHON) -m tests.fault_injection

.PHONY: lint
lint: setup-check
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo
	clang-format --dry-run --Werror $(C_FILES)

.PHONY: format
format: setup-check
	$(PYTHON) -m ruff format .
	clang-format -i $(C_FILES)

.PHONY: matrix
matrix: setup-test
	$(PYTHON) -m pytest tests/vmtest --matrix docs/kernels.md

.PHONY: docs
docs: setup-check
	$(PYTHON) scripts/generate_docs.py

.PHONY: bench
bench: setup-test
	$(PYTHON) -m tests.bench $(if $(JSON),--json) $(if $(WRITE),--write)

.PHONY: setup-check setup-test
setup-check setup-test:
	@scripts/setup $(@:setup-%=%)

# Pins and hashes, without a word on where packages come from.
LOCK = $(PYTHON) -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

.PHONY: lock
lock: setup-test
	$(PYTHON) -m pip install --quiet pip-tools
	$(LOCK) --upgrade -o requirements.txt pyproject.toml
	$(LOCK) --upgrade -o requirements-dev.txt -c requirements.txt pyproject.toml requirements-dev.in
	$(LOCK) --upgrade -o requirements-go.txt requirements-go.in

.PHONY: clean
clean:
	$(MAKE) -C bpf clean
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache
