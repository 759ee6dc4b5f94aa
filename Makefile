# The commands that matter; each works in an environment with pip install -e '.[dev]'.
.PHONY: test quick lint site ci

test:  ## all tests
	python -m pytest -n auto

quick:  ## without those that take more than a few seconds
	python -m pytest -m "not slow"

lint:  ## ruff, with its formatting
	python -m ruff check .
	python -m ruff format --check .

site:  ## the documentation as pages, in site/
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet --strict
	python tools/check_site.py site

ci:  ## what continuous integration does: a fresh environment, tests, linters, types, the wheel
	bash .ci/run
