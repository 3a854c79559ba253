PYTHON ?= python3.11
VENV := .venv
SPARK := .venv-spark
BIN := $(VENV)/bin
export IOTBILL_HOME ?= $(CURDIR)/.iotbill
MONTH ?= 2026-10
# Without cached bytecode every process would compile all its imports again.
export PYTHONDONTWRITEBYTECODE :=

# Small statements are for a great part allocations: with room to keep what was freed they take an
# eighth less time. A process of many threads would hold much memory so.
test test-deep: export GLIBC_TUNABLES := glibc.malloc.tcache_count=20000

.PHONY: help demo test test-spark test-deep test-browser up lint lock clean

help:  ## show the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# uv installs the hash-locked set in seconds; it is itself a locked package.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@grep -A20 '^uv==' requirements.lock | awk 'NR==1||/--hash/{print} NR>1&&!/--hash/{exit}' > $(VENV)/uv.lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# The same locked set and the extra of the cluster engine, apart: nothing else may come to need it.
$(SPARK)/.installed: $(VENV)/.installed requirements-spark.lock
	$(PYTHON) -m venv $(SPARK)
	$(BIN)/uv pip sync --quiet --python $(SPARK)/bin/python --require-hashes \
	  requirements.lock requirements-spark.lock
	$(BIN)/uv pip install --quiet --python $(SPARK)/bin/python --no-deps --no-build-isolation \
	  --editable .
	touch $@

demo: $(VENV)/.installed  ## land a sample month, close it, print the close report
	$(BIN)/iotbill demo --month $(MONTH)

test: $(VENV)/.installed  ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test-deep: $(VENV)/.installed  ## the whole suite with five times the random tests; for a quiet hour
	IOTBILL_TEST_DEPTH=5 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test-spark: $(SPARK)/.installed  ## the cluster engine against the embedded one; needs Java 17
	$(SPARK)/bin/python -m pytest tests/spark

test-browser: $(VENV)/.installed  ## look at Dagster's pages with a headless chromium; skipped without one
	IOTBILL_TEST_BROWSER=1 $(BIN)/python -m pytest -rs tests/shell/test_web_interface.py

up: $(VENV)/.installed  ## Dagster web server and daemon on the same instance
	$(BIN)/iotbill up

lint: $(VENV)/.installed  ## formatting, lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(VENV)/.installed  ## resolve the versions again and write requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev \
	  --no-emit-index-url --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	grep -o 'pyspark==[0-9.]*' pyproject.toml | $(BIN)/uv pip compile --quiet --universal \
	  --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate \
	  --custom-compile-command "make lock" --constraints requirements.lock - -o requirements-spark.lock

clean:  ## remove the environment and the local state
	rm -rf $(VENV) $(SPARK) .iotbill
