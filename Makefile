# Every target does its own set-up; a fresh machine needs Python 3.11, pip and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Small tensors: threads inside torch cost more than they give, and the tests run in two processes.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

.PHONY: setup demo test check lint fast format docs floors bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Tutelage needs Python 3.11 or newer: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch -e ".[dev]"
	@touch $@

demo: setup
	$(BIN)/tutelage demo

# Everything, slow tests too.
test: setup
	$(PYTEST) --slow

# What a change must pass before it is committed.
check: lint fast

# Format, lint, types, the picture of the imports, generated docs.
lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tools.floors
	$(BIN)/python -m tools.docs --check

fast: setup
	$(PYTEST)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	$(BIN)/python -m tools.docs

floors: setup
	$(BIN)/python -m tools.floors

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
