# The same verbs for a person and for CI.
.PHONY: help setup eval test test-fast lint lock test-newest test-floors smoke docs demos model
LOCAL_ASSETS := ../shared/assets/simpler_bridge

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

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

test-fast: ## what needs no simulator, trains nothing and kills nothing, in a minute and a half (CONTRIBUTING.md)
	.venv/bin/pytest -m "not sim and not slow"

lock: ## write requirements.lock anew: the newest packages that pyproject.toml allows
	@scripts/lock.sh

test-newest: ## the tests with the newest packages that pyproject.toml allows, in .venv-newest
	@scripts/test_bounds.sh newest

test-floors: ## the tests with the oldest packages that pyproject.toml names, in .venv-floors
	@scripts/test_bounds.sh floors

smoke: setup ## build the wheel, install it into a clean environment and run the toy suite there
	@scripts/smoke_wheel.sh

docs: setup ## build the site into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet

demos: setup ## record the reference demonstrations into data/demos, the same bit for bit each time
	for suite in libero_spatial libero_object libero_goal simpler_bridge; do \
		.venv/bin/vla-eval record --suite $$suite --out data/demos/$$suite --trials 50 --every 0 \
			--slowest 0.7 --fastest 1.2 --push-fraction 0.05 || exit 1; done
	.venv/bin/vla-eval render data/demos/libero_spatial --cameras agentview --every 6
	.venv/bin/vla-eval render data/demos/libero_object --cameras agentview --every 10 --trials 10
	.venv/bin/vla-eval render data/demos/libero_goal --cameras agentview --every 10 --trials 10
	.venv/bin/vla-eval render data/demos/simpler_bridge --cameras agentview --every 4
	.venv/bin/vla-eval record --suite libero_spatial --out data/demos/libero_spatial_steady --trials 50 --every 0 \
		--push-fraction 0.2 --consistent-grasp
	.venv/bin/vla-eval render data/demos/libero_spatial_steady --cameras agentview --every 4

TINY := --cache data/features --precision bfloat16 --log-every 10 --device cpu \
	--optim.schedule cosine --optim.warmup 50 --optim.weight-decay 0.05

model: ## train the released model on data/demos: motion on all suites, then motion and actions on libero_spatial
	.venv/bin/vla-train train --stage motion --out data/model/motion $(TINY) \
		--data $(addprefix data/demos/,libero_spatial_steady libero_object libero_goal simpler_bridge) \
		--model.preset tiny --model.proprio-dim 8 --model.action-horizon 4 \
		--steps 500 --optim.lr 1e-3 --optim.batch-size 64 --optim.micro-batch 64
	.venv/bin/vla-train train --stage finetune --out data/model/finetune $(TINY) --save-dtype float16 \
		--data data/demos/libero_spatial_steady --init data/model/motion/checkpoint \
		--steps 3500 --optim.lr 1e-3 --optim.batch-size 32 --optim.micro-batch 32
	.venv/bin/vla-train train --stage finetune --out data/model/again $(TINY) --save-dtype float16 --seed 1 \
		--data data/demos/libero_spatial_steady --init data/model/finetune/checkpoint \
		--steps 1500 --optim.lr 6e-4 --optim.batch-size 32 --optim.micro-batch 32
