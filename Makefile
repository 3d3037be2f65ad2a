# Everything a contributor runs. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= python3
# pip options for the installation, for example the index with torch's smaller CPU build:
#   make demo PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'
PIP_ARGS ?=
DEMO_ARGS ?=
TEST_ARGS ?= -n logical --maxprocesses 4
BENCH_ARGS ?=
FAULTS_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test faults lint docs proto proto-baseline bench science clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: $(STAMP) ## run a whole federation on this machine: a coordinator and four clients (DEMO_ARGS=...)
	@$(BIN)/fedelta demo --alpha 0.5 $(DEMO_ARGS)

test: $(STAMP) ## run the tests (TEST_ARGS=...)
	@$(BIN)/python -m pytest $(TEST_ARGS)

faults: $(STAMP) ## more than 200 faults on a running federation, and a table of what came of them (FAULTS_ARGS=...)
	@$(BIN)/python -m tests.faults $(FAULTS_ARGS)
	@$(BIN)/python -m pytest -m slow

lint: $(STAMP) ## ruff, mypy, and the checks of the contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	scripts/check-protos

docs: $(STAMP) ## generate configuration.md and parts.md in docs/reference from the dataclasses
	$(BIN)/python -m scripts.configuration_reference docs/reference/configuration.md
	$(BIN)/python -m scripts.parts_reference docs/reference/parts.md

proto: $(STAMP) ## generate common/fedelta/v1 from protos/
	scripts/generate-protos common

proto-baseline: ## with a release: make today's contract the one that later changes must not break
	scripts/buf build --exclude-source-info -o protos/baseline.binpb

science: $(STAMP) ## reproduce published results by simulation: tables and pictures, minutes (SCIENCE_ARGS=...)
	@$(BIN)/python -m benchmarks.science $(SCIENCE_ARGS)

bench: $(STAMP) ## measure rounds beside raw sockets (BENCH_ARGS=...)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(STAMP): pyproject.toml constraints.txt
	@PYTHON='$(PYTHON)' scripts/make-venv $(VENV) $(PIP_ARGS)
	@touch $@
