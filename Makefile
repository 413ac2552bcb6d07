# make quickstart   the main job, offline, in two minutes
# make test         the whole test suite
# make lint         ruff, mypy, what may import what, and the map of the packages

PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= quickstart
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: quickstart test lint clean

quickstart: $(INSTALLED)
	$(BIN)/dino-st quickstart --output "$(OUTPUT)"

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.architecture --check

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[report,test,lint]"
	touch $@

clean:
	rm -rf $(VENV) $(OUTPUT)
