# Everything runs from here; `make help` lists the commands. Needs make and Python 3.11 to 3.13.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
MISSED := build/test/not_tested.txt
NBVAL := --nbval --nbval-current-env --nbval-kernel-startup-timeout 600 --nbval-cell-timeout 1800
# Threads that wait sleep; src/autoencoders/__init__.py says why. Here for what loads torch first.
export OMP_WAIT_POLICY ?= passive
.DEFAULT_GOAL := help
.PHONY: help run test test-cluster lab notebooks slides assignment grade grade-example lint bench clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1#/' \
		| awk -F'#' '{ printf "%-21s%s\n", $$1, $$2 }'

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; here = sys.version.split()[0]; \
		sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else \
		f"Python {here}: expected 3.11, 3.12 or 3.13; run make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing requirements.lock into .venv: once, a few minutes, about 6 GB on Linux"
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $(STAMP)

run: $(STAMP) ## execute all notebooks, build the talk, in build/ (COURSE_DATA=folder: real data)
	@$(BIN)/python notebooks/run.py
	@COURSE_OUT="$${COURSE_OUT:-build}" $(BIN)/python slides/build.py

notebooks: $(STAMP) ## for authors: the same, into notebooks/ and slides/, to commit
	@$(BIN)/python notebooks/run.py --in-place

slides: $(STAMP) ## build the talk from the committed results (COURSE_OUT=build: from your run's)
	@$(BIN)/python slides/build.py

test: lint ## lint, unit tests, notebooks against their stored outputs, bands of the results
	@rm -rf build/test
	@env -u COURSE_DATA $(BIN)/python -m pytest tests --ignore tests/test_bands.py \
		--ignore tests/cluster --not-tested $(MISSED)
ifeq ($(NOTEBOOKS),)
	@echo "no notebooks yet: nothing to compare with stored outputs"
else
	@env -u COURSE_DATA CI=true COURSE_OUT=build/test $(BIN)/python -m pytest $(NBVAL) $(NOTEBOOKS)
endif
	@env -u COURSE_DATA COURSE_OUT=build/test $(BIN)/python -m pytest tests/test_bands.py
	@cat $(MISSED)

test-cluster: $(STAMP) ## trainings on a Slurm of two nodes that the tests start here
	@env -u COURSE_DATA $(BIN)/python -m pytest tests/cluster

lint: $(STAMP) ## check style: package, tests and notebooks
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .

assignment: $(STAMP) ## the student version, without solutions and outputs, in build/assignment/
	@$(BIN)/python grading/assignment.py

grade: $(STAMP) ## grade SUBMISSIONS=folder, into build/grades/ (OPTIONS='--only 01': that notebook)
	@test -n "$(SUBMISSIONS)" \
		|| { echo "whose? make grade SUBMISSIONS=folder, with one folder a student in it"; exit 1; }
	@env -u COURSE_DATA $(BIN)/python grading/grade.py "$(SUBMISSIONS)" $(OPTIONS)

grade-example: $(STAMP) ## grade two made-up submissions of notebook 01: build/example/
	@env -u COURSE_DATA $(BIN)/python grading/example.py $(OPTIONS)

lab: $(STAMP) ## open the notebooks in JupyterLab; results go to build/
	@$(BIN)/jupyter lab --notebook-dir . --LabApp.default_url=/lab/tree/notebooks

bench: $(STAMP) ## what the fast paths gain (DATA=folder: our codec against others on your pictures)
ifdef DATA
	@env -u COURSE_DATA $(BIN)/python tests/bench_codecs.py "$(DATA)" $(OPTIONS)
else
	@$(BIN)/python tests/bench.py
endif

clean: ## remove everything generated: build/ and .venv
	rm -rf build .venv .ruff_cache
