# make quickstart MODEL=DIR   the main job, offline, with a causal language model from a directory
# make test                   the whole test suite
# make lint                   ruff and mypy

PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= quickstart
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: quickstart test lint clean

quickstart: $(INSTALLED)
ifndef MODEL
	@echo "make quickstart needs a causal language model: make quickstart MODEL=DIR" >&2; exit 2
else
	$(BIN)/dino-st run smoke --set model="$(MODEL)" --output "$(OUTPUT)"
endif

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,lint]"
	touch $@

clean:
	rm -rf $(VENV) $(OUTPUT)
