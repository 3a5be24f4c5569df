# Two commands do all on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The developers' versions; users are not pinned. Another torch build: make TORCH="torch" test
TORCH ?= torch==2.13.0

.PHONY: demo test check install clean coverage bench reproduce
.DEFAULT_GOAL := test

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@echo "Installing transpike and its tools into $(VENV) (a minute or two) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "transpike needs Python 3.11 or newer; run make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off "$(TORCH)"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off --editable ".[dev]"
	@touch $@
	@echo "Installed."

demo: install
	$(BIN)/transpike demo

test: check

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -n 2

coverage:
	$(PYTHON) -m venv .venv-vision
	.venv-vision/bin/python -m pip install --disable-pip-version-check --quiet --editable ".[vision]"
	.venv-vision/bin/python benchmarks/coverage.py

# Needs the shared ResNet-20 weights and CIFAR-10: make bench WEIGHTS=resnet20.safetensors DATA=folder
WEIGHTS ?= resnet20-cifar10-jpeg.safetensors
DATA ?= data
bench:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --disable-pip-version-check --quiet --editable ".[bench,images,report]"
	.venv-bench/bin/python benchmarks/speed.py --weights $(WEIGHTS) --data-dir $(DATA)
	.venv-bench/bin/python benchmarks/accuracy.py --weights $(WEIGHTS) --data-dir $(DATA)
	.venv-bench/bin/python benchmarks/grid.py --weights $(WEIGHTS) --data-dir $(DATA)
	.venv-bench/bin/python benchmarks/tables.py

reproduce: install
	$(BIN)/python reproductions/ecc/run.py $(if $(wildcard $(WEIGHTS)),--weights $(WEIGHTS) --data-dir $(DATA))

clean:
	rm -rf $(VENV) .venv-vision .venv-bench build dist runs
