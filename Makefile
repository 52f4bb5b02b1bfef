# The same verbs for a person and for CI.
.PHONY: help setup eval test lint demos
LOCAL_ASSETS := ../shared/assets/simpler_bridge

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

setup: ## build .venv and install the system libraries
	@scripts/system_packages.sh
	@scripts/setup.sh
	@if [ -d $(LOCAL_ASSETS) ]; then .venv/bin/vla-eval assets simpler_bridge --from $(LOCAL_ASSETS); \
	else echo "assets: for the Bridge tasks, run .venv/bin/vla-eval assets simpler_bridge --from DIR|URL"; fi

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

demos: setup ## record the reference demonstrations into data/demos, the same bit for bit each time
	for suite in libero_spatial libero_object libero_goal simpler_bridge; do \
		.venv/bin/vla-eval record --suite $$suite --out data/demos/$$suite --trials 50 --every 0 \
			--slowest 0.7 --fastest 1.2 --pushed 0.05 || exit 1; done
	.venv/bin/vla-eval render data/demos/libero_spatial --cameras agentview --every 6
	.venv/bin/vla-eval render data/demos/libero_object --cameras agentview --every 10 --trials 10
	.venv/bin/vla-eval render data/demos/libero_goal --cameras agentview --every 10 --trials 10
	.venv/bin/vla-eval render data/demos/simpler_bridge --cameras agentview --every 4
