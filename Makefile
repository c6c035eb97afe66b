# Needs python3.11 (or newer) and make; everything else is installed into .venv, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SLOW := tests/faults tests/property/test_parity.py tests/integration/test_readme.py \
	tests/integration/test_ray.py tests/unit/benchmarks
CODE := featurestore feature_repo tests $(wildcard benchmarks) $(wildcard protos)

.DEFAULT_GOAL := help
.PHONY: help demo test slow soak check proto bench bench-training bench-windows bench-serving \
	profile-serving constraints clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/'

demo: $(READY)  ## from a definition to a gRPC answer, on the 2013 New York flights
	$(BIN)/python feature_repo/demo.py

test: $(READY)  ## all tests but the slow ones; make test ARGS="-k name" picks some
	$(BIN)/python -m pytest -n 2 $(SLOW:%=--ignore=%) --ignore=tests/soak $(ARGS)

slow: $(READY)  ## jobs killed at any moment, parity, the README and the benchmarks from end to end
	$(BIN)/python -m pytest -n 2 $(SLOW) $(ARGS)

soak: $(READY)  ## a server under load for ten minutes, or SOAK_SECONDS, on each Redis there is
	$(BIN)/python -m pytest -s tests/soak $(ARGS)

check: $(READY)  ## style, types, the rooms' import rules, the protos and their generated code
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check

proto: $(READY)  ## regenerate featurestore/proto from protos/
	$(BIN)/python protos/generate.py

bench: $(READY)  ## the benchmarks, as a table and as JSON in benchmarks/out
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-training: $(READY)  ## the benchmarks of training sets and materialization, judged; ARGS=--full
	$(BIN)/python benchmarks/run.py training views skew large executors cold materialize $(ARGS)

bench-windows: $(READY)  ## the benchmarks of windows and pushes, judged; ARGS=--full
	$(BIN)/python benchmarks/run.py windows windows-length windows-lookup windows-push $(ARGS)

bench-serving: $(READY)  ## the benchmarks of lookups beside Feast's servers, judged; ARGS=--full
	$(BIN)/python benchmarks/run.py serving $(ARGS)

profile-serving: $(READY)  ## where a lookup's time goes, in process and through gRPC; ARGS=--full
	$(BIN)/python benchmarks/run.py serving-profile $(ARGS)

constraints:  ## pin the whole environment anew (needs uv)
	uv pip compile --quiet --universal --upgrade --no-header --no-annotate \
		--python-version 3.11 --extra all --extra dev pyproject.toml --output-file constraints.txt

clean:  ## remove the environment
	rm -rf $(VENV)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[all,dev]'
	touch $@
