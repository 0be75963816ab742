# Needs Python 3.11 or newer, with its venv module, and make.
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin

# Tests start hundreds of processes, and each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE
# Several test processes share the cores; waiting threads of BLAS would take a fifth of the time.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: venv
venv: $(VENV)/.installed ## create .venv and install the project

.PHONY: run
run: venv ## run an experiment: make run ARGS="data=grad_school hospitals=5"
	$(BIN)/fl-he run $(ARGS)

# Each process imports for seconds; a third one works while tests of the other two wait.
.PHONY: test
test: $(VENV)/.installed-test ## run the tests that are not slow (minutes): make test ARGS="-k crypto"
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal -m "not slow and not release" $(ARGS)

# They mostly wait for processes that they started, so more run at once than there are cores; of
# federations, and of runs on Ray, one at a time: their processes poll.
SLOW = $(BIN)/python -m pytest --dist loadgroup --no-loadscope-reorder
.PHONY: test-slow
test-slow: $(VENV)/.installed-test ## run the slow tests: Ray, Flower's processes, a browser
	$(SLOW) --numprocesses 4 -m "slow and not release" $(ARGS)

.PHONY: release-checks
release-checks: $(VENV)/.installed-test ## run the longest tests, before a release (hours)
	$(SLOW) --numprocesses 2 -m release $(ARGS)
	$(MAKE) commands ALL=1 ARGS=
	$(MAKE) mutation SAMPLE=5 # percent: about 300 mutants

# At most two at a time, a limit on memory, and low priority: a mutant may never end.
MODULE ?= clients crypto
MUTANTS = fl_he.$$module.*
ifdef SAMPLE
MUTANTS = $$($(BIN)/python tests/support/mutation_sample.py $(SAMPLE) fl_he.$$module.*)
# A sample is drawn from existing mutants; a name without a match makes the mutants and then stops.
MAKE_MUTANTS = [ -d mutants ] || $(BIN)/mutmut run --max-children 2 none || true;
endif
.PHONY: mutation
mutation: $(VENV)/.installed-mutation ## mutation tests: make mutation MODULE=crypto.paillier.packing SAMPLE=20
	ulimit -v 16000000; set -f; export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1; $(MAKE_MUTANTS) \
	for module in $(MODULE); do mutants="$(MUTANTS)"; [ -z "$$mutants" ] || \
		nice $(BIN)/mutmut run --max-children 2 $$mutants || exit; done
	$(BIN)/python tests/support/mutation_survivors.py $(MODULE:%='fl_he.%.*')
	$(BIN)/python tests/support/mutation_table.py $(MODULE:%='fl_he.%.*')

.PHONY: fuzz
fuzz: $(VENV)/.installed-fuzz ## a minute of hostile inputs: make fuzz ARGS="--inputs 1050000 --seed 11"
	PYTHONPATH=tests:tests/support $(BIN)/python -m fuzz $(ARGS)

.PHONY: check
check: $(VENV)/.installed-dev ## lint, format, type and prose checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python .ci/check_prose.py
	$(BIN)/mypy --strict
	$(BIN)/deptry .
	$(BIN)/pre-commit validate-config

.PHONY: docs
docs: $(VENV)/.installed-test ## build the documentation: build/site/index.html
	$(BIN)/python docs/make_configuration.py > docs/configuration.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# In a fresh clone, without uncommitted changes.
PAGES = README.md CONTRIBUTING.md docs examples
.PHONY: commands
commands: $(VENV)/.installed-test ## run the quick commands of README and docs: make commands ARGS=docs/runs.md ALL=1
	ALL_COMMANDS=$(ALL) PYTHONPATH=tests:tests/support $(BIN)/python -m pytest -p documented_commands -p no:xdist --capture=no \
		--confcutdir=docs --verbosity=-1 $(or $(ARGS),$(PAGES))

.PHONY: notebooks
notebooks: $(VENV)/.installed-test ## run examples/notebooks, which are kept without outputs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter execute examples/notebooks/*.ipynb

.PHONY: wheel
wheel: ## build sdist and wheel in dist/; use the wheel in an empty environment
	PYTHON=$(PYTHON) .ci/check-release

.PHONY: hooks
hooks: $(VENV)/.installed-dev ## check the changes before each commit
	$(BIN)/pre-commit install

.PHONY: diagrams
diagrams: ## draw the documentation's diagrams (needs npm and chromium)
	docs/diagrams/render.sh

.PHONY: clean
clean: ## delete .venv and caches, but no results
	rm -rf $(VENV) build dist mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find fl_he tests -type d -name __pycache__ -prune -exec rm -rf {} +

INSTALL = @echo "installing into $(VENV): pip downloads Flower, Ray, scikit-learn and what they" \
		"need, which takes a minute or more and prints nothing meanwhile"; \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

# The extras build on each other, so a larger set-up includes the smaller ones.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[privacy]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[dev]'
	@touch $(VENV)/.installed $(VENV)/.installed-test $@

$(VENV)/.installed-fuzz: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[fuzz]'
	@touch $@

$(VENV)/.installed-mutation: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[mutation]'
	@touch $(VENV)/.installed $(VENV)/.installed-test $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "PYTHON must be Python 3.11 or newer, got $(PYTHON): $$($(PYTHON) --version 2>&1)." \
			"Name another one: make venv PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
