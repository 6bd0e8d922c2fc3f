.DEFAULT_GOAL := help
.PHONY: help setup format lint types test test-all docs bench

help:      ## list the tasks
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/: *##/\t/' | expand -t 12
setup:     ## install everything and the commit hooks
	uv sync
	uv run prek install
format:    ## format the code and sort imports
	uv run ruff format
	uv run ruff check --fix
lint:      ## check style, imports and the contracts between packages
	uv run ruff format --check
	uv run ruff check
	uv run lint-imports
types:     ## check types
	uv run mypy
test:      ## the tests, offline, some minutes on two cores
	uv run pytest
test-all:  ## the tests with the slow ones
	uv run pytest -m "not gpu and not weights"
docs:      ## the documentation as pages, in site/
	NO_MKDOCS_2_WARNING=1 uv run mkdocs build --strict
bench:     ## the benchmarks, one after the other
	for script in benchmarks/bench_*.py; do uv run python $$script || exit 1; done
