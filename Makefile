# `make help` lists the targets. Each makes .venv and installs into it when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
# The lock holds for the Python its first line names; another Python resolves afresh.
LOCKED := $(shell sed -n '1s/^\# Python //p' requirements-lock.txt)
CONSTRAINTS = $(shell $(BIN)/python -c 'import sys; print("-c requirements-lock.txt" * (sys.version_info[:2] == tuple(map(int, "$(LOCKED)".split(".")))))')

# Keeps TensorFlow's notes about the machine out of what these commands print.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help demo test lint unit-tensorflow unit-jax wheel bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-16s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml setup.cfg requirements-lock.txt
	@echo "Installing into $(VENV) ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	touch $@

demo: $(STAMP)  ## train a character model on Shakespeare, export it, serve it (minutes)
	$(BIN)/python recipes/char_lm.py
	@echo; echo "The exports that come with the project:"
	$(BIN)/python recipes/serve_saved_model.py saved_models/shakespeare/1 --prompt ROMEO:
	$(BIN)/python recipes/serve_saved_model.py saved_models/pronounce/1 --prompt recurrent --temperature 0

test: lint unit-tensorflow unit-jax wheel  ## everything CI checks

lint: $(STAMP)  ## style: ruff check and ruff format --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit-tensorflow: $(STAMP)  ## tests and doctests on TensorFlow
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

unit-jax: $(STAMP)  ## tests and doctests on JAX
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

wheel: $(STAMP)  ## build the wheel, install it into a clean environment, use it there
	rm -rf build dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --no-compile --disable-pip-version-check $(CONSTRAINTS) dist/*.whl
	cd build && clean/bin/python ../tests/wheel_check.py
	rm -rf build/clean

bench: $(STAMP)  ## measure all, half an hour or more; `pip install '.[bench]'` adds PyTorch
	$(BIN)/python -m benchmarks

clean:  ## remove what the other targets made, .venv too
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
