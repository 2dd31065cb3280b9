# make demo, make test: the two commands. Everything happens in .venv, which `make` creates.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools
TORCH := $(VENV)/.torch

.PHONY: demo test test-all bench lint format clean

demo: $(STAMP)
	$(BIN)/gatsby demo

test: $(TOOLS)
	$(BIN)/pytest -q $(PYTEST_ARGS)

test-all: $(TORCH) lint
	$(BIN)/pytest -q -m "not network" $(PYTEST_ARGS)

bench: $(TORCH)
	$(BIN)/gatsby bench all

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml
	@$(PYTHON) .ci/python_fits.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# What tests and lint need besides.
$(TOOLS): $(STAMP)
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# PyTorch is the reference that slow tests compare with. TORCH_VERSION= takes the newest that the `bench` extra admits.
TORCH_VERSION ?= 2.13.0
$(TORCH): $(TOOLS)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet torch$(addprefix ==,$(TORCH_VERSION))
	@touch $@

clean:
	rm -rf $(VENV) build dist demo
