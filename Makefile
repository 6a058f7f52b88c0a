# Each target makes the environment that it needs: Python 3.11 or newer, make and pip are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: quickstart test test-fast lint bench bench-smoke docs notebooks clean

quickstart: $(STAMP)
	$(BIN)/mde fit --config quickstart

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup

test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks

bench-smoke: $(STAMP)
	$(BIN)/python -m benchmarks --quick

# runs them; `make docs` shows what they left, or the cells alone
notebooks: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.notebooks --out docs/notebooks

docs: $(STAMP)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# uv installs in parallel and is fetched into the environment itself; without it pip does the same, more slowly
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mde needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	if $(BIN)/python -m pip install --quiet uv; then \
		$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev,tensorboard]' -c constraints.txt; \
	else \
		$(BIN)/python -m pip install --quiet -e '.[dev,tensorboard]' -c constraints.txt; \
	fi
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist docs/_build docs/reference docs/notebooks .mypy_cache .ruff_cache .pytest_cache
