# make demo | make test: each creates .venv, installs the pinned set and runs.
# pip, not uv, resolves torch: its CPU/CUDA builds come from where pip is configured to look.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow check notebook results benchmark clean

demo: $(STAMP)  ## draw a data set and run the whole pipeline on it, two minutes
	$(BIN)/calco demo --budget 2m

test: $(STAMP) check  ## lint, types and all tests that take seconds
	$(BIN)/python -m pytest -q -m "not slow"

test-slow: $(STAMP)  ## the other tests: trainings, several processes, benchmarks on drawn sets
	$(BIN)/python -m pytest -q -m slow

check: $(STAMP)  ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

notebook: $(STAMP)  ## open the walk through the pipeline
	$(BIN)/python -m pip install -q jupyterlab
	$(BIN)/jupyter lab notebooks/01_end_to_end.ipynb

results: $(STAMP)  ## measure reports/results.md again, about two hours
	$(BIN)/python scripts/reproduce_results.py

benchmark: $(STAMP)  ## measure reports/parts.json and scores_benchmark.json again, two minutes
	$(BIN)/python scripts/benchmark_parts.py
	$(BIN)/python scripts/benchmark_scores.py

clean:
	rm -rf $(VENV) build src/*.egg-info

$(STAMP): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps -e .
	touch $@
