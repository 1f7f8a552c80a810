# Each target first makes .venv and installs what is missing, so each works on a clean clone.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: demo test check

# Search, retrain and report on the embedded digits data, in about two minutes.
demo: $(READY)
	$(BIN)/bnas search search_spaces/digits.yaml --data digits --out runs/demo

# Everything CI runs; tests that need real data or a GPU say why they are skipped.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -n auto --dist loadfile

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
