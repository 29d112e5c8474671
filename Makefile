# Two commands set everything up: `make demo` and `make test`. Both install into .venv in this folder, with uv when it is
# there and pip otherwise; versions and hashes are locked in requirements/.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && { command -v $$p; break; }; done)
BIN := .venv/bin
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv)
ARGS ?=
TESTS ?=
# Two workers for what only computes; tests with real servers and clients keep time and run alone after them.
WORKERS ?= 2
export PYTHONSAFEPATH = 1

.PHONY: help demo test counterparts check lint types unit bench bench-lake bench-many soak planted reference lock proto clean

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/bin/python:
	@if [ -z "$(PYTHON)$(UV)" ]; then echo "Neve needs Python 3.11 to 3.13 with venv. Debian, Ubuntu: apt-get install -y python3 python3-venv; macOS: brew install python@3.12" >&2; exit 1; fi
	@echo "creating .venv with $(or $(PYTHON),the Python that uv finds or fetches)"
	@if [ -n "$(UV)" ]; then "$(UV)" venv -q --python "$(or $(PYTHON),3.12)" .venv; else "$(PYTHON)" -m venv .venv; fi

.venv/.demo: requirements/demo.txt pyproject.toml | .venv/bin/python
	@echo "installing what the demo needs (locked in requirements/demo.txt)"
	@sh tests/install.sh requirements/demo.txt "$(UV)"
	@touch $@

.venv/.dev: requirements/dev.txt pyproject.toml | .venv/bin/python
	@echo "installing what the tests need (locked in requirements/dev.txt)"
	@sh tests/install.sh requirements/dev.txt "$(UV)"
	@touch .venv/.demo $@

demo: .venv/.demo ## the whole system on embedded defaults, with real data, in a temporary folder (ARGS="--json --keep")
	@$(BIN)/neve demo $(ARGS)

test: .venv/.dev ## every test that can run on this machine; the rest is skipped and says so (TESTS="tests/unit/test_wire.py")
ifeq ($(TESTS),)
	@failed=0; \
	$(BIN)/python -m pytest -n $(WORKERS) --ignore=tests/integration $(ARGS) || failed=1; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/integration $(ARGS) || failed=1; \
	exit $$failed
else
	$(BIN)/python -m pytest $(TESTS) $(ARGS)
endif

counterparts: ## programs that tests compare with: an S3 server and franz-go (Go), Apache Kafka (Maven, a JDK), kcat (apt), kafkajs (npm)
	sh tests/fetch_counterparts.sh

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

unit: .venv/.dev
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/unit

check: lint types unit ## lint, types and quick tests, before a commit
	$(BIN)/neve simulate --seed 1 --seeds 4 --jobs 2

planted: .venv/.dev ## plant each known bug and see that the tests find it
	$(BIN)/python tests/planted/run.py

bench: .venv/.dev ## side by side with Apache Kafka (needs Java and Maven); writes docs/benchmarks
	$(BIN)/python -m tests.bench.run $(ARGS)

bench-lake: .venv/.dev ## the export, segment to committed table
	$(BIN)/python -m tests.bench.bench_lake $(ARGS)

bench-many: .venv/.dev ## thousands of connections, Metadata of thousands of partitions, beside Apache Kafka
	$(BIN)/python -m tests.bench.bench_many $(ARGS)

soak: .venv/.dev ## what takes longer than CI may: many seeds, many kills; results go to docs/soak.md
	$(BIN)/python -m tests.soak $(ARGS)

reference: .venv/.dev ## write the documentation pages that are made from the program
	$(BIN)/python -m neve.reference docs
	$(BIN)/python -m tests.tools.page docs/kafka-tools.md
	$(BIN)/python -m tests.clients.results docs/clients.md

lock: ## lock dependencies again (needs uv)
	for set in "core:" "lake:--extra lake" "demo:--extra lake --extra demo" "dev:--extra lake --extra demo --extra dev"; do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header $${set#*:} pyproject.toml -o requirements/$${set%%:*}.txt; done

proto: ## generate schemas/segment_pb2.py again (needs protoc 30 or newer)
	protoc --python_out=schemas --pyi_out=schemas -Ischemas schemas/segment.proto

clean:
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis build dist
