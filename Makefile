# Each target first makes .venv and installs what is missing, so each works on a clean clone.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

# A second environment for what FINN pins: it sees all of the first, behind its own.
FPGA := .venv-fpga

LOWEST := .venv-lowest
# Tests wait for processes of theirs about a quarter of the time: three for two cores.
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((cores * 3 / 2)))
TOOLS_LOWEST := pytest pytest-xdist hypothesis jsonschema scikit-learn hatchling
TESTS_LOWEST := cli data_sources packed_file report selection shipped spec

.PHONY: demo test test-fpga test-lowest check

# Search, retrain and report on the embedded digits data, in about two minutes.
demo: $(READY)
	$(BIN)/bnas search search_spaces/digits.yaml --data digits --out runs/demo

# Everything CI runs; tests that need real data or a GPU say why they are skipped.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 40

# QONNX files in FINN's front end and in hls4ml's C simulation, which needs g++.
test-fpga: $(FPGA)/.ready
	OMP_NUM_THREADS=1 $(FPGA)/bin/python -m pytest -ra -n auto tests/test_fpga.py

# The lowest versions that pyproject.toml allows, in an environment of their own: one quick test file for each library.
test-lowest: $(LOWEST)/.ready
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR) $(LOWEST)/bin/python -m pytest -q -n auto --dist loadfile -W ignore -m "not slow" \
		$(TESTS_LOWEST:%=tests/test_%.py)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(FPGA)/.ready: requirements-fpga.txt $(READY)
	test -x $(FPGA)/bin/python || $(PYTHON) -m venv $(FPGA)
	$(FPGA)/bin/python -m pip install --quiet --no-deps -r requirements-fpga.txt
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(FPGA)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/first.pth"
	touch $@

$(LOWEST)/.ready: requirements.lowest
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python -r requirements.lowest $(TOOLS_LOWEST)
	touch $@
