# make demo, make test: the two commands. Everything happens in .venv, which `make` creates.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools
TORCH := $(VENV)/.torch

.PHONY: demo test test-all test-gpu bench lint format checkpoint clean

demo: $(STAMP)
	$(BIN)/gatsby demo

# Three processes, a file of tests to each at a time: most tests keep one core busy, and some wait.
PYTEST := $(BIN)/pytest -q -n 3 --dist loadfile
test: $(TOOLS)
	$(PYTEST) $(PYTEST_ARGS)

test-all: $(TORCH) lint
	$(PYTEST) -m "not network" $(PYTEST_ARGS)

# On whatever GPU MLX has: a Mac's, or one of NVIDIA's with mlx[cuda13]. It says which, and stops where there is none.
GPU_TESTS := tests/kernels tests/model tests/training tests/writers tests/device
test-gpu: $(TOOLS)
	@$(BIN)/gatsby doctor | grep -w GPU || { echo "MLX has no GPU here; for NVIDIA: pip install 'mlx[cuda13]'"; exit 1; }
	$(BIN)/pytest -q -m "not network and not baseline" $(GPU_TESTS) $(PYTEST_ARGS)

bench: $(TORCH)
	$(BIN)/gatsby bench all

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonplatform Linux
	$(BIN)/pyright --pythonplatform Darwin

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

# A checkpoint from scratch, in two stages on different stories: four hours, then an hour and forty minutes, mostly on one
# core beside other work, and a quarter of an hour to measure it. If it is stopped, the same command resumes. The checkpoint
# that ships had earlier forms of the writer, which are only in the history: docs/results.md has its stages.
MADE := runs/checkpoint
TUNE := --preset tune --from $(MADE)/run/best-loss --lr 8e-4 --max-chars 6000000
checkpoint: $(STAMP)
	$(BIN)/gatsby write --writer house-plain --n 20000 --seed 1930 --out $(MADE)/corpus
	$(BIN)/gatsby train --preset small --corpus $(MADE)/corpus --out $(MADE)/run $(if $(wildcard $(MADE)/run/last),--resume)
	$(BIN)/gatsby write --writer house-plain --n 20000 --seed 1932 --out $(MADE)/more
	$(BIN)/gatsby train $(TUNE) --corpus $(MADE)/more --out $(MADE)/tuned $(if $(wildcard $(MADE)/tuned/last),--resume)
	test -d $(MADE)/small || $(BIN)/gatsby export $(MADE)/tuned/best-loss --to native --dtype float16 --out $(MADE)/small
	$(BIN)/gatsby report --model $(MADE)/small --corpus $(MADE)/more --batch 100 --out $(MADE)/evaluation
	cp $(MADE)/evaluation/README.md $(MADE)/evaluation/evaluation.json $(MADE)/small/
	@echo "to ship it: rm -r checkpoints/small && cp -r $(MADE)/small checkpoints/small"

clean:
	rm -rf $(VENV) build dist demo
