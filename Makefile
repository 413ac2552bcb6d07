# make quickstart   the main job, offline, in one to three minutes
# make test         the whole test suite
# make ray-faults   workers of a Ray cluster that are killed, lost, doomed or strange; five minutes
# make lint         ruff, mypy, what may import what, and the map of the packages
# make mutants      how many small mistakes in the readers and parsers the tests notice; about an hour
# make docs         the documentation site in site/, strictly: no broken link, no public name without docstring

PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= quickstart
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: quickstart test ray-faults lint mutants docs clean

quickstart: $(INSTALLED)
	$(BIN)/dino-st quickstart --output "$(OUTPUT)"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

ray-faults: $(INSTALLED)
	RAY_FAULTS=1 $(BIN)/python -m pytest tests/faults/test_workers.py tests/faults/test_chat_workers.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.architecture --check

mutants: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[mutation]"
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutation.py

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[report,test,lint,docs]"
	touch $@

clean:
	rm -rf $(VENV) $(OUTPUT) mutants site
