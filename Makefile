# make setup       .venv with the project, its tools and learn2learn
# make train       meta-train the default experiment, evaluate it, print the table and where the plot is
# make demo        a trained half-cheetah adapts: the table, the curve and a film; half a minute
# make test        format, lint, types, floors and tests: what CI runs
# make quick       format, lint, floors and the quick tests: under a minute
# make metaworld   add Meta-World to .venv, for env=metaworld_ml1, metaworld_ml10, metaworld_ml45
# make docs        the API reference, docs/api/index.html; fails on a public symbol without a docstring
# make results     the tables and figures of docs/results.md from the run data kept in results/
# make figures     every picture of docs/; trains two small runs where they are missing, 10 CPU-minutes
# make bench       speed of sampling against bare MuJoCo, and of the meta-gradient

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
# pip's --group leaves out --config-settings, so the requirement itself is read from the group
LEARN2LEARN = $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["learn2learn"])')
RUN ?= outputs/half_cheetah_dir/promp/$(shell date +%Y-%m-%d_%H-%M-%S)
ARGS ?=
COVERAGE := $(VENV)/coverage.json
PARALLEL := --numprocesses auto --dist worksteal # as many processes as cores

.PHONY: setup train demo test mypy pytest quick docs results figures bench format metaworld

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("maml_rl needs Python 3.11 or newer: make PYTHON=python3.12 setup" if sys.version_info < (3, 11) else 0)'
	@rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	$(BIN)/python -m pip install --quiet --no-deps --config-settings="--build-option=build_ext" $(LEARN2LEARN)
	@touch $@

# ARGS are options of train.py; RUN=<folder> names the run folder.
train: run := $(RUN)
train: setup
	$(BIN)/python train.py experiment=half_cheetah_dir hydra.run.dir=$(run) $(ARGS)
	$(BIN)/python evaluate.py run=$(run)

demo: setup
	$(BIN)/python evaluate.py run=pretrained/half_cheetah_dir steps=1 video=auto out=outputs/demo

metaworld: $(VENV)/.metaworld

$(VENV)/.metaworld: $(STAMP)
	$(BIN)/python -m pip install --quiet "scipy>=1.14,<2"
	$(BIN)/python -m pip install --quiet --no-deps --group metaworld
	@touch $@

test: setup metaworld
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory --jobs 2 mypy pytest # beside each other: mypy is one process

mypy:
	$(BIN)/mypy

pytest:
	$(BIN)/python -m slipcover --json --out $(COVERAGE) -m pytest $(PARALLEL)
	$(BIN)/python -m slipcover --merge $(COVERAGE) --out $(COVERAGE) --skip-covered --fail-under 95

quick: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest $(PARALLEL) -q -m "not slow"

docs: setup
	$(BIN)/python docs/build_api.py

results: setup
	$(BIN)/python -m benchmarks.results

figures: results
	$(BIN)/python -m benchmarks.estimators --draw
	$(BIN)/python -m benchmarks.learning_maml
	$(BIN)/python -m benchmarks.pictures

bench: setup
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.meta_gradient

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
