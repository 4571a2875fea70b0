# `make demo` and `make test` do all the set-up; see the README.
VENV := .venv
PYTHON := $(VENV)/bin/python
CONSTRAINTS := constraints.txt

.PHONY: demo test lint format clean

demo: $(VENV)/.installed
	$(PYTHON) -m separator.demo --out demo

test: lint
	$(PYTHON) -m pytest

lint: $(VENV)/.installed-test
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

format: $(VENV)/.installed-test
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(CONSTRAINTS) | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[test]"
	@touch $@ $(VENV)/.installed

$(PYTHON):
	@sh .ci/make-venv $(VENV)

clean:
	rm -rf $(VENV) demo build dist
