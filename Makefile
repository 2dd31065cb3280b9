# make demo, make test: the two commands. Everything happens in .venv, which `make` creates.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all bench bench-extra lint format clean

demo: $(STAMP)
	$(BIN)/gatsby demo

test: $(STAMP)
	$(BIN)/pytest -q $(PYTEST_ARGS)

test-all: $(STAMP) bench-extra lint
	$(BIN)/pytest -q -m "not network" $(PYTEST_ARGS)

bench: $(STAMP)
	$(BIN)/gatsby bench all

# PyTorch, for the rival's half of the bench and the tests that need it. On Linux without a GPU, name the small build:
# make bench-extra TORCH="torch==2.13.0"
TORCH ?= --editable .[bench]
bench-extra: $(VENV)/.bench
$(VENV)/.bench: $(STAMP)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet $(TORCH)
	@touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml
	@$(PYTHON) .ci/python_fits.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist demo
