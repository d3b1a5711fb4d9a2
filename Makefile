# `make demo` and `make test` set everything up themselves, inside this checkout.
.DEFAULT_GOAL := help
READY := .venv/.ready
BENCH := .venvs/bench/.ready
BIN := .venv/bin

help:            ## what can be made
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements/dev.lock pyproject.toml tools/setup.sh
	@tools/setup.sh .venv requirements/dev.lock

$(BENCH): requirements/bench.lock pyproject.toml tools/setup.sh
	@tools/setup.sh .venvs/bench requirements/bench.lock

demo: $(READY)   ## five nodes on this machine work for a sixth, one is killed, nothing is lost
	@$(BIN)/swarm demo

test: $(READY)   ## every test, on every Python from 3.11 to 3.14 that this machine has
	@$(BIN)/python tools/run_tests.py

check: $(READY)  ## lint, types, import floors, house rules, documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest tests/house tests/docs

bench: $(READY) $(BENCH)  ## our speed as ratios to a bare TLS echo, a HarnessAPI server and Ray
	@$(BIN)/python -m bench

lock: $(READY)   ## resolve the locked dependencies again (names, versions, hashes; no addresses)
	@tools/lock.sh

docs: $(READY)   ## regenerate the generated documents
	@$(BIN)/python tools/generate_docs.py

clean:           ## forget the environments and caches of this checkout
	rm -rf .venv .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help demo test check bench lock docs clean
