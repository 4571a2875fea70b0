# `make demo` and `make test` do all the set-up; see the README.
VENV := .venv
PYTHON := $(VENV)/bin/python
CONSTRAINTS := constraints.txt
# Processes that test.
WORKERS ?= 2

.PHONY: demo test lint format clean train-default train-default-causal

demo: $(VENV)/.installed
	$(PYTHON) -m separator.demo --out demo

test: lint
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed-test
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

format: $(VENV)/.installed-test
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

# The bundled models anew, from the voices in VOICES (see recipes/default/README.md), in two rounds, then evaluated and
# put in the package's place. Stopped and started again, even days later, it goes on where it was.
TRAIN ?= $(PYTHON) -m separator.train
train-default train-default-causal: train-%: $(VENV)/.installed
	@test -n "$(VOICES)" || { echo "say where the voices are: make $@ VOICES=DIR" >&2; exit 2; }
	$(TRAIN) +recipe=$(subst -,_,$*)_1 data.root=$(VOICES)
	$(TRAIN) +recipe=$(subst -,_,$*)_2 data.root=$(VOICES)
	$(PYTHON) -m separator.evaluate model=runs/$(subst -,_,$*)_2 data.list=$(VOICES)/test_mixtures.csv out=runs/$*-test
	$(PYTHON) -m separator.publish runs/$(subst -,_,$*)_2 runs/$* --evaluation runs/$*-test --dtype float16 \
	    --licence apache-2.0
	cp runs/$*/model.safetensors separator/weights/$*.safetensors

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(CONSTRAINTS) | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[test]"
	@sh .ci/get-chromium
	@touch $@ $(VENV)/.installed

$(PYTHON):
	@sh .ci/make-venv $(VENV)

clean:
	rm -rf $(VENV) demo build dist
