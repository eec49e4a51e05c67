# `make help` lists what there is. Everything runs in `.venv`, which is made on
# first use and brought up to date whenever pyproject.toml or constraints.txt
# change.

PYTHON ?= python3
# A preset of experiments/configs/: <algorithm>/<preset>.
CONFIG ?= mbmpo/half_cheetah_quick
WORKDIR ?= runs/$(CONFIG)
BENCH ?= throughput
# Further arguments of the program that runs, e.g. ARGS=--config.seed=1.
ARGS ?=
# Extras to install, e.g. EXTRAS=cuda; each set is installed on its first use.
EXTRAS ?=
# Processes that run the tests; JOBS=0 runs them in this one.
JOBS ?= 2
# The versions to install; `CONSTRAINTS=` takes the newest allowed ones.
CONSTRAINTS ?= constraints.txt

VENV := .venv
BIN := $(VENV)/bin
PROCESSES = -n $(JOBS) --dist loadfile
comma := ,
INSTALLED := $(VENV)/.installed-$(or $(subst $(comma),-,$(EXTRAS)),base)
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DOCS := $(VENV)/.installed-docs
CODE := $(wildcard mbmpo_jax experiments benchmarks tests docs)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train test test-all docs lint format bench clean

help:
	@echo 'make train     train a policy       [CONFIG=$(CONFIG)]'
	@echo '                                    [WORKDIR=runs/$$(CONFIG)] [ARGS=]'
	@echo 'make test      the fast tests       [ARGS="-k name"]'
	@echo 'make test-all  every test           [ARGS=]'
	@echo 'make bench     a benchmark          [BENCH=$(BENCH)] [ARGS=]'
	@echo 'make docs      the manual, to docs/_build/html/index.html'
	@echo 'make lint      format, lint and type checks'
	@echo 'make format    rewrite the code to the format'
	@echo 'make clean     delete .venv and caches; runs/ stays'
	@echo
	@echo 'train and bench take EXTRAS=cuda for an NVIDIA GPU; all take'
	@echo 'PYTHON=python3.12 for another Python when .venv is first made.'

train: $(INSTALLED)
	$(BIN)/python experiments/train.py --config=$(CONFIG) \
	  --workdir=$(WORKDIR) $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python benchmarks/$(BENCH).py $(ARGS)

# Compiling is most of what the tests do, so it is done in haste here; test-all
# tests what users run. Both share the files of tests out over processes.
test: $(INSTALLED_DEV)
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python -m pytest -m 'not slow' \
	  $(PROCESSES) $(ARGS)

# The docs and their notebook are tested, too.
test-all: $(INSTALLED_DEV) $(INSTALLED_DOCS)
	$(BIN)/python -m pytest $(PROCESSES) $(ARGS)

docs: $(INSTALLED_DOCS)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet \
	  docs docs/_build/html $(ARGS)

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

format: $(INSTALLED_DEV)
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

clean:
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	  build dist docs/_build docs/generated
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each set of extras. A virtual environment left half made by an
# interruption, or by a Python without ensurepip, has no pip: start it afresh.
$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	    sys.exit(not (3, 11) <= v < (3, 14))' 2>/dev/null || { \
	    found=$$($(PYTHON) --version 2>/dev/null) || found=missing; \
	    echo 'mbmpo-jax needs Python 3.11 to 3.13, but PYTHON=$(PYTHON) is' \
	      "$${found:-older}; try make PYTHON=python3.12" >&2; \
	    exit 1; \
	  } && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --disable-pip-version-check \
	  $(addprefix --constraint ,$(CONSTRAINTS)) \
	  --editable '.$(if $(filter-out base,$*),[$(subst -,$(comma),$*)])'
	@touch $@
