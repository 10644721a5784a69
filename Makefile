PYTHON ?= .venv/bin/python

.PHONY: check lint types test docs samples bench

check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n auto

docs:
	$(PYTHON) docs/refresh.py

samples:
	$(PYTHON) sample_masks/make.py

bench:
	$(PYTHON) benchmarks/surface.py
