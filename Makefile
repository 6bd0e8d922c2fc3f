.DEFAULT_GOAL := help
.PHONY: help setup format lint types quick check test test-all docs bench licences

help:      ## list the tasks
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/' | expand -t 12
setup:     ## install everything and the commit hooks
	uv sync
	uv run prek install
format:    ## format the code and sort imports
	uv run ruff format
	uv run ruff check --fix
lint:      ## check style, imports and the contracts between packages
	uv run ruff format --check
	uv run ruff check
	uv run ruff check --preview --select PLW1514  # text is UTF-8, on Windows too
	uv run lint-imports
types:     ## check types
	uv run mypy
quick:     ## the tests of tests/quick.txt: rules, equations, golden files
	uv run pytest @tests/quick.txt
check: lint types quick ## before a commit: lint, types and quick
test:      ## the tests, offline, some minutes on two cores
	uv run pytest
test-all:  ## the tests with the slow ones
	uv run pytest -m "not gpu and not weights"
docs:      ## the documentation as pages, in site/
	NO_MKDOCS_2_WARNING=1 uv run mkdocs build --strict
licences:  ## the licence of everything that is installed; fails on one that nobody has looked at
	uv run python scripts/licences.py
bench:     ## the benchmarks, one after the other
	for script in benchmarks/bench_*.py; do uv run python $$script || exit 1; done
