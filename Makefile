# The same verbs for a person and for CI.
.PHONY: help setup eval test lint

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

setup: ## build .venv and install the system libraries
	@scripts/system_packages.sh
	@scripts/setup.sh

eval: setup ## a first result: libero_spatial, one trial a task
	.venv/bin/vla-eval --suite libero_spatial --trials 1 --out results/runs/first

lint: setup ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: ## set up, then lint, types and the whole test suite
	@scripts/system_packages.sh --browser
	@$(MAKE) --no-print-directory lint
	.venv/bin/pytest
