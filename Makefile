# `make run` on a fresh clone gives a running cluster; `make help` lists the rest.

VENV := .venv
PYTHON_IN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
RUN_STAMP := $(VENV)/.installed-to-run
DOCS_STAMP := $(VENV)/.installed-for-docs

.DEFAULT_GOAL := help
.PHONY: help setup run test lint demo bench chaos screenshots docker-test docs wheel image clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Done again only when one of these files is newer than the last time.
$(STAMP): pyproject.toml clients/python/pyproject.toml constraints.txt ops/setup.sh
	@ops/setup.sh $(VENV) dev
	@touch $@ $(RUN_STAMP)

# What running needs and no more: a third of the packages.
$(RUN_STAMP): pyproject.toml constraints.txt ops/setup.sh
	@ops/setup.sh $(VENV) run
	@touch $@

$(DOCS_STAMP): $(RUN_STAMP)
	@ops/setup.sh $(VENV) docs
	@touch $@

setup: $(STAMP) ## make .venv with the pinned dependencies and the project

run: ## start 1 master and 3 replicas in the foreground, data under ./data
	@ops/check-ports.sh 15500 15501 15502 15510 15511 15512 15520 15521 15522 15530 15531 15532
	@$(MAKE) --no-print-directory $(RUN_STAMP)
	@$(VENV)/bin/synap cluster

test: $(STAMP) ## run the tests, with the short forms of those of `make chaos`
	@$(PYTHON_IN) -m pytest -n 3

lint: $(STAMP) ## check style and types
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

demo: $(STAMP) ## load a real data set into a cluster and compare the nodes
	@$(PYTHON_IN) -m ops.demo

bench: $(STAMP) ## measure one node beside webdis and redis-server
	@$(PYTHON_IN) -m ops.bench

chaos: $(STAMP) ## run the tests that kill, fill up and cut off, in their long forms
	@SYNAP_CHAOS_ROUNDS=$${SYNAP_CHAOS_ROUNDS:-500} $(PYTHON_IN) -m pytest tests/chaos -s

screenshots: $(STAMP) ## make the pictures of the console in docs/console
	@$(PYTHON_IN) -m ops.screenshots

docker-test: ## prove docs/deployment.md on docker or podman; removes the cluster's data
	@ops/docker-test.sh

docs: $(DOCS_STAMP) ## build the docs as a site in build/site; a dead link fails
	@NO_MKDOCS_2_WARNING=1 $(PYTHON_IN) -m mkdocs build --strict
	@echo "the site is in build/site/index.html"

wheel: $(STAMP) ## build wheel and source archive in dist/
	@$(PYTHON_IN) -m build --quiet
	@ls dist

image: ## build the container image, synap:latest
	@ops/docker-build.sh

clean: ## remove what make made; ./data stays
	rm -rf $(VENV) build dist clients/python/dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './data/*' -prune -exec rm -rf {} +
