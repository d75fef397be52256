# Everything runs from here; `make help` lists the commands. Needs Python 3.11, 3.12 or 3.13, and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
.DEFAULT_GOAL := help
.PHONY: help run test lab notebooks slides assignment grade grade-example lint bench clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1#/' | awk -F'#' '{ printf "%-21s%s\n", $$1, $$2 }'

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python " + sys.version.split()[0] + ": expected 3.11, 3.12 or 3.13; run make PYTHON=python3.12" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing requirements.lock into .venv: once, a few minutes, about 6 GB on Linux"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

run: $(STAMP) ## execute all notebooks in order, then build the talk; results go to build/ and slides/ (COURSE_DATA=folder: real data, build/ only)
	@$(BIN)/python notebooks/run.py
	@$(BIN)/python slides/build.py

notebooks: $(STAMP) ## execute all notebooks and store their outputs in them, to commit
	@$(BIN)/python notebooks/run.py --in-place

slides: $(STAMP) ## build the talk, build/deck.pptx and build/deck.html, from the results that are there
	@$(BIN)/python slides/build.py

test: lint ## lint, unit tests, all notebooks against their stored outputs, then the bands of the results
	@env -u COURSE_DATA $(BIN)/python -m pytest tests --ignore tests/test_bands.py
ifeq ($(NOTEBOOKS),)
	@echo "no notebooks yet: nothing to compare with stored outputs"
else
	@rm -rf build/test
	@env -u COURSE_DATA CI=true COURSE_OUT=build/test $(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout 300 $(NOTEBOOKS)
endif
	@env -u COURSE_DATA COURSE_OUT=build/test $(BIN)/python -m pytest tests/test_bands.py

lint: $(STAMP) ## check style: package, tests and notebooks
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .

assignment: $(STAMP) ## the student version, without solutions and outputs, in build/assignment/
	@$(BIN)/python grading/assignment.py

grade: $(STAMP) ## grade SUBMISSIONS=folder (folder/<student>/): build/grades/grades.csv and a page a student (OPTIONS='--only 01')
	@test -n "$(SUBMISSIONS)" || { echo "which submissions? make grade SUBMISSIONS=folder, one folder a student in it"; exit 1; }
	@env -u COURSE_DATA $(BIN)/python grading/grade.py "$(SUBMISSIONS)" $(OPTIONS)

grade-example: $(STAMP) ## grade two made-up submissions of notebook 01, to see what comes out: build/example/
	@env -u COURSE_DATA $(BIN)/python grading/example.py $(OPTIONS)

lab: $(STAMP) ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

bench: $(STAMP) ## measure what the fast paths gain, as ratios within one run
	@$(BIN)/python tests/bench.py

clean: ## remove everything generated: build/ and .venv
	rm -rf build .venv .ruff_cache
