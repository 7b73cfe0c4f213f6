# Every target sets up first what it needs; a second call with nothing changed costs about 0.1 s.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
KILLS ?= 20

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench web fix laws crash wheel browser services lock

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s%s\n", $$1, $$2}'

setup: ## create .venv, install the locked packages, build the dashboard
	@$(PYTHON) tools/prepare.py

demo: setup ## run the fleet application with simulated vehicles (ARGS="--port 8123 --for 30s --no-browser")
	@$(BIN)/headrace demo $(ARGS)

test: setup ## run all tests (ARGS="-k window")
	@$(BIN)/pytest -n logical $(ARGS)

check: setup ## lint, formatting, types, layers, and the same for the dashboard with its unit tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/bench_table.py --check
	@$(PYTHON) tools/prepare.py --npm run check
	@$(PYTHON) tools/prepare.py --npm run test

bench: setup ## run every bench, write bench/results/*.json and the README's table (ARGS="window push")
	-$(BIN)/python bench/peers/setup
	$(BIN)/headrace bench $(ARGS)
	$(BIN)/python tools/bench_table.py

web: setup ## build the dashboard into the package, then check it against its size budget
	@$(PYTHON) tools/prepare.py --npm run build

fix: setup ## format and mend what can be mended by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	@$(PYTHON) tools/prepare.py --npm run fix

laws: setup ## run the laws over every operator, ten times as hard as in make test
	@HEADRACE_HYPOTHESIS=ci $(BIN)/pytest tests/laws --timeout 3600 $(ARGS)

crash: setup ## kill engine and gateway at random moments while a client counts rows (KILLS=20)
	@HEADRACE_KILLS=$(KILLS) $(BIN)/pytest -m crash $(ARGS)

wheel: setup ## build the wheel with the dashboard inside, install it elsewhere and start it
	@$(BIN)/python tools/try_wheel.py

browser: ## install Debian's Chromium for the browser tests where it is missing
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium fonts-liberation; \
	  else echo "make browser: install Chromium (Debian: apt install chromium)" >&2; exit 1; fi; }

services: ## install Debian's Redis and PostgreSQL for the tests of feature sources where they are missing
	@{ command -v redis-server && ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server postgresql; \
	  else echo "make services: install Redis and PostgreSQL (Debian: apt install redis-server postgresql)" >&2; exit 1; fi; }

LOCK = PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS)

lock: setup ## resolve requirements/*.txt anew after a change of dependencies (ARGS=--upgrade)
	$(LOCK) pyproject.toml -o requirements/run.txt
	$(LOCK) pyproject.toml --group dev -c requirements/run.txt -o requirements/dev.txt
	$(LOCK) --group node -o requirements/node.txt
	$(LOCK) --group uv -o requirements/uv.txt
