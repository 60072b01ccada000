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
	@echo "                       (COVERAGE=1: with the lines that they do not reach)"
	@echo "make test              make check, and the tests on real kernels, containers and servers"
	@echo "make test-faults       inject every fault in full and write the table in docs/reliability.md"
	@echo "make bench             measure the budgets and print a table (JSON=1: JSON; WRITE=1: docs/performance.md;"
	@echo "                       STORM=1: with 10,000 kills more, some 3 minutes)"
	@echo "make bench-peers       measure other programs beside the agent (WRITE=1: docs/comparison.md)"
	@echo "make bench-fleet       send as 1,000 and 10,000 hosts through two gateways (HOSTS=200: so many; WRITE=1: docs/scale.md)"
	@echo "make bench-scale       measure what grows with host, storm and store (WRITE=1: docs/scale.md; SIZE=1000: quick)"
	@echo "make matrix            run every kernel and write the table in docs/kernels.md"
	@echo "make docs              write the generated parts of docs/"
	@echo "make mixin             write the dashboards and rules of mixin/ (RUNBOOK=URL: where runbook.md is)"
	@echo "make pictures          make real kills and write the pictures of their pages, docs/pictures/"
	@echo "make manifests         write deploy/kubernetes/otel-oom.yaml from the chart, with Helm"
	@echo "make dist              build the source distribution and the wheels into dist/"
	@echo "make image             build the container image localhost/otel-oom, by podman or docker"
	@echo "make deb               build the Debian packages of these wheels into dist/"
	@echo "make release           build all of a release, say what it is and what is missing; sends nothing"
	@echo "make lint | format | lock | clean"

.PHONY: demo
demo:
	@scripts/setup demo
	@$(if $(ENDPOINT),OTEL_EXPORTER_OTLP_ENDPOINT="$(ENDPOINT)") .venv/bin/otel-oom demo

# Tests that need neither root nor a virtual machine nor a server, and take no more than moments.
QUICK := not (root or vm or servers or slow)
# Folders whose tests all need root or a guest (tests/testlib/tiers.py): not collected.
ROOT_FOLDERS := $(addprefix --ignore=tests/,cluster e2e fault_injection system vmtest)
SLOW_FOLDERS := $(addprefix --ignore=tests/,fuzz)

.PHONY: check
check: setup-check
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint test-quick

.PHONY: test-quick
test-quick: setup-check
	$(PYTHON) -m pytest -n 4 --dist worksteal -m "$(QUICK)" $(ROOT_FOLDERS) $(SLOW_FOLDERS) -q $(if $(COVERAGE),--cov=otel_oom --cov-report=term:skip-covered)

# Further ones that need neither root nor a virtual machine.
UNPRIVILEGED := (servers or slow) and not (root or vm)

.PHONY: test
test: setup-test check
	@$(MAKE) --no-print-directory -j2 test-kernels test-unprivileged

# Real kills, containers and guests, one test at a time: each mostly waits.
.PHONY: test-kernels
test-kernels:
	MAKEFLAGS= $(PYTHON) -m pytest -m "root or vm"

# Beside them, behind them, and printed as a whole.
.PHONY: test-unprivileged
test-unprivileged:
	@printed=$$(MAKEFLAGS= nice -n 3 $(PYTHON) -m pytest -m "$(UNPRIVILEGED)" $(ROOT_FOLDERS) 2>&1) && failed=0 || failed=$$?; \
	printf '%s\n' "$$printed"; exit $$failed

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

# RUNBOOK is the address at which people find mixin/runbook.md.
.PHONY: mixin
mixin: setup-check
	$(PYTHON) -m mixin.source $(if $(RUNBOOK),--runbook=$(RUNBOOK))

.PHONY: pictures
pictures: setup-test
	$(PYTHON) -m pytest tests/system/test_pages.py tests/vmtest/test_pages.py --pictures

.PHONY: manifests
manifests: setup-test
	$(PYTHON) scripts/generate_manifest.py

.PHONY: bench
bench: setup-test
	$(PYTHON) -m tests.bench $(if $(JSON),--json) $(if $(STORM),--storm) $(if $(WRITE),--write)

.PHONY: bench-peers
bench-peers: setup-test
	$(PYTHON) -m tests.bench.peers $(if $(WRITE),--write)

.PHONY: bench-fleet
bench-fleet: setup-test
	$(PYTHON) -m tests.bench.fleet $(if $(HOSTS),--hosts $(HOSTS)) $(if $(WRITE),--write)

# SIZE is the largest one that is measured, PART some of cgroups, processes, storm, cpus, journal.
.PHONY: bench-scale
bench-scale: setup-test
	$(PYTHON) -m tests.bench.scale $(if $(WRITE),--write) $(if $(SIZE),--size=$(SIZE)) $(PART)

.PHONY: dist
dist: setup-dist
	rm -rf dist
	$(PYTHON) -m scripts.build_distributions
	.venv/bin/auditwheel show dist/*_x86_64.whl
	.venv/bin/auditwheel show dist/*_aarch64.whl

# Of OCI's format a health check is no part.
ENGINE := $(or $(shell command -v podman),docker)
.PHONY: image
image: dist
	version=$$($(PYTHON) -c 'from otel_oom import __version__; print(__version__)') && \
	$(ENGINE) build $(if $(findstring podman,$(ENGINE)),--format=docker) \
		--build-arg=VERSION="$$version" --build-arg=REVISION="$$(git rev-parse HEAD)" \
		--tag=localhost/otel-oom:"$$version" --tag=localhost/otel-oom:latest \
		--file=deploy/container/Containerfile .

.PHONY: deb
deb: dist
	$(PYTHON) -m scripts.build_deb

.PHONY: sbom
sbom: dist
	$(PYTHON) -m scripts.build_sbom

.PHONY: chart
chart: setup-test dist
	$$($(PYTHON) -m tests.testlib.servers.build helm) package deploy/kubernetes/chart --destination dist

# Not OCI's format: see ENGINE. One archive for each machine.
MACHINES ?= amd64 arm64
.PHONY: image-archives
image-archives: dist
	version=$$($(PYTHON) -c 'from otel_oom import __version__; print(__version__)') && \
	for machine in $(MACHINES); do \
		podman build --quiet --format=docker --platform=linux/$$machine \
			--build-arg=VERSION="$$version" --build-arg=REVISION="$$(git rev-parse HEAD)" \
			--timestamp="$$(git log -1 --format=%ct)" --tag=localhost/otel-oom:"$$version-$$machine" \
			--file=deploy/container/Containerfile . && \
		podman save --quiet --output="dist/otel-oom-$$version-image-$$machine.tar" \
			localhost/otel-oom:"$$version-$$machine" || exit; \
	done

.PHONY: release
release: dist deb sbom chart image-archives
	$(PYTHON) -m scripts.release $(if $(STRICT),--strict) $(if $(TAG),--tag)

.PHONY: setup-check setup-dist setup-test
setup-check setup-dist setup-test:
	@scripts/setup $(@:setup-%=%)

# Pins and hashes, without a word on where packages come from.
LOCK = $(PYTHON) -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

.PHONY: lock
lock: setup-test
	$(PYTHON) -m pip install --quiet pip-tools
	$(LOCK) --upgrade --extra grpc --extra prometheus --extra zstd -o requirements.txt pyproject.toml
	$(LOCK) --upgrade --extra grpc --extra prometheus --extra zstd -o requirements-dev.txt -c requirements.txt pyproject.toml requirements-dev.in
	$(LOCK) --upgrade -o requirements-dist.txt -c requirements-dev.txt requirements-dist.in
	$(LOCK) --upgrade -o requirements-go.txt requirements-go.in

.PHONY: clean
clean:
	$(MAKE) -C bpf clean
	$(MAKE) -C native clean
	rm -rf .venv dist native/vendor .mypy_cache .ruff_cache .pytest_cache
