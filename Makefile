# Two commands do all on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The developers' versions; users are not pinned. Another torch build: make TORCH="torch" test
TORCH ?= torch==2.13.0

.PHONY: demo test check install clean coverage bench
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

clean:
	rm -rf $(VENV) .venv-vision build dist runs
