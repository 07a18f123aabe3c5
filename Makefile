# `make help` lists the targets. Each makes .venv and installs into it when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
NEXT_KERAS ?= keras-nightly
# Of the Python that an environment is made with, not of one that may be there already.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
STAMP := $(VENV)/.installed-$(VERSION)
# The lock holds for the Python its first line names; another Python resolves afresh.
LOCKED := $(shell sed -n '1s/^\# Python //p' requirements-lock.txt)
CONSTRAINTS := $(if $(filter $(VERSION),$(LOCKED)),-c requirements-lock.txt)

# Keeps TensorFlow's notes about the machine out of what these commands print: at 2 it says that
# no GPU could be started where there is none.
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Where no compiled module may be written, each of a hundred processes compiles TensorFlow's anew:
# six seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-next test-tpu next-keras lint unit-tensorflow unit-jax wheel bench zoo clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-16s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml setup.cfg requirements-lock.txt
	@test -n "$(VERSION)" || { echo "PYTHON must be an interpreter; received PYTHON=$(PYTHON)"; exit 1; }
	@echo "Installing into $(VENV) ..."
	test -x $(BIN)/python$(VERSION) || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	touch $@

demo: $(STAMP)  ## train a character model on Shakespeare, export it, serve it (minutes)
	$(BIN)/python recipes/char_lm.py
	@echo; echo "The exports that come with the project:"
	$(BIN)/python recipes/serve_saved_model.py saved_models/shakespeare/1 --prompt ROMEO:
	$(BIN)/python recipes/serve_saved_model.py saved_models/pronounce/1 --prompt recurrent --temperature 0

# The wheel beside the last tests: much of its time goes into unpacking, file by file.
test: lint unit-tensorflow  ## everything CI checks
	@$(MAKE) --jobs 2 unit-jax wheel

test-next:  ## the tests on the next Keras, its nightly, in an environment of its own
	$(MAKE) VENV=.venv-next next-keras
	$(MAKE) VENV=.venv-next unit-tensorflow unit-jax

# Forced, since both packages own the same folder, and the first takes it along where it goes.
next-keras: $(STAMP)
	$(BIN)/python -m pip uninstall --quiet --yes keras
	$(BIN)/python -m pip install --quiet --pre --no-deps --force-reinstall $(NEXT_KERAS)
	@$(BIN)/python -m pip freeze | grep keras

test-tpu:  ## compile every form and cell for a TPU that is not there; 1.3 GB, Python 3.12
	$(PYTHON) -m venv build/tpu
	build/tpu/bin/python -m pip install --quiet --disable-pip-version-check "keras>=3.15,<3.16" jax libtpu
	build/tpu/bin/python -m benchmarks tpu

lint: $(STAMP)  ## style: ruff check and ruff format --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# In the order of tests/conftest.py.
XDIST = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# In parts: TensorFlow keeps what it compiled for good, 4 GB a process by the end of each.
# With one worker more, as some tests wait for servers and processes.
unit-tensorflow: WORKERS = 3
unit-tensorflow: $(STAMP)  ## tests and doctests on TensorFlow
	@for part in "tests/test_[a-l]*.py" "tests/test_[m-z]*.py rnnzoo"; do \
	  KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -q $(XDIST) $$part || exit 1; \
	done

unit-jax: $(STAMP)  ## tests and doctests on JAX
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q $(XDIST)

wheel: $(STAMP)  ## build the wheel, install it into a clean environment, use it there
	rm -rf build dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --no-compile --disable-pip-version-check $(CONSTRAINTS) dist/*.whl
	cd build && clean/bin/python ../tests/wheel_check.py
	rm -rf build/clean

bench: $(STAMP)  ## measure all, half an hour or more; `pip install '.[bench]'` adds PyTorch
	$(BIN)/python -m benchmarks

zoo: $(STAMP)  ## train a model of the zoo again and fill its card: make zoo zoo=lstm.surnames
	@test -n "$(zoo)" || { echo "zoo must be a name of the zoo, as in make zoo zoo=lstm.surnames"; exit 1; }
	$(BIN)/python recipes/zoo $(zoo)

clean:  ## remove what the other targets made, environments too
	rm -rf .venv .venv-next build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
