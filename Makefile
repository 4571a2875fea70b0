# `make demo` and `make test` do all the set-up; see the README.
VENV := .venv
PYTHON := $(VENV)/bin/python
CONSTRAINTS := constraints.txt
# Processes that test.
WORKERS ?= 2

.PHONY: demo test lint format docs clean train-default train-default-causal voices-given

demo: $(VENV)/.installed
	$(PYTHON) -m separator.demo --out demo

test: lint
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadgroup

lint: $(VENV)/.installed-test
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

format: $(VENV)/.installed-test
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

# The documentation as a website in site/.
docs: $(VENV)/.installed-docs
	$(VENV)/bin/zensical build --clean --strict

# The bundled models anew, from the voices in VOICES (see recipes/default/README.md), in rounds, then evaluated and put
# in the package's place. Stopped and started again, even days later, it goes on where it was.
TRAIN ?= $(PYTHON) -m separator.train

train-default: $(VENV)/.installed voices-given
	$(TRAIN) +recipe=default_1 data.root=$(VOICES)
	$(TRAIN) +recipe=default_2 data.root=$(VOICES)
	$(TRAIN) +recipe=default_3 data.root=$(VOICES)
	$(PYTHON) -m separator.average --force runs/default_2 runs/default_3 runs/default_mean.safetensors
	$(TRAIN) +recipe=default_long data.root=$(VOICES) start_from=runs/default_mean.safetensors optimizer.lr=0.0005 \
		trainer.batch_size=8 trainer.max_steps=1750
	$(TRAIN) +recipe=default_long name=default_decay data.root=$(VOICES) start_from=runs/default_long optimizer.lr=0.0005 \
		trainer.batch_size=8 trainer.max_steps=1300 schedule.decay_steps=1300
	$(PYTHON) -m separator.average --force runs/default_mean.safetensors runs/default_mean.safetensors runs/default_decay \
		runs/default_final.safetensors
	$(call bundle,default,runs/default_final.safetensors)

train-default-causal: $(VENV)/.installed voices-given
	$(TRAIN) +recipe=default_causal_1 data.root=$(VOICES)
	$(TRAIN) +recipe=default_causal_2 data.root=$(VOICES)
	$(call bundle,default-causal,runs/default_causal_2)

voices-given:
	@test -n "$(VOICES)" || { echo "say where the voices are: make $(MAKECMDGOALS) VOICES=DIR" >&2; exit 2; }

# $(call bundle,NAME,MODEL): a trained model becomes that of the package.
define bundle
$(PYTHON) -m separator.evaluate model=$(2) data.list=$(VOICES)/test_mixtures.csv out=runs/$(1)-test
$(PYTHON) -m separator.publish $(2) runs/$(1) --force --evaluation runs/$(1)-test --dtype float16 --licence apache-2.0
cp runs/$(1)/model.safetensors separator/weights/$(1).safetensors
endef

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(CONSTRAINTS) | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[test]"
	@sh .ci/get-chromium
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml $(CONSTRAINTS) | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) "zensical>=0.0.50" "mkdocstrings[python]>=1.0"
	@touch $@

$(PYTHON):
	@sh .ci/make-venv $(VENV)

clean:
	rm -rf $(VENV) demo build dist
