# Each target sets up what it needs: a virtual environment in .venv with the project installed in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread per process: the runs of a sweep and the test workers already fill the cores.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-launchers check format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-15s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

install: $(STAMP) ## make .venv and install the project with its development tools

demo: $(STAMP) ## train the demo preset on MNIST, print its table beside the papers', draw its figures (5 minutes)
	$(BIN)/python -m experiments.run -m experiment=demo hydra.launcher.n_jobs=2
	$(BIN)/python -m experiments.table demo
	$(BIN)/python -m experiments.figure demo
	$(BIN)/python -m experiments.results

test: $(STAMP) ## run the test suite (2 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2

test-slow: $(STAMP) ## run what `make test` leaves out: every preset end to end on a few images (8 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 -m slow

# Ray's launcher wants an older cloudpickle than joblib: its environment has that, and lends the rest (torch) from .venv.
RAY := $(VENV)/ray
SITE := import sysconfig; print(sysconfig.get_path("purelib"), end="")
$(RAY)/.installed: $(STAMP)
	$(BIN)/python -m venv $(RAY)
	echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" > "$$($(RAY)/bin/python -c '$(SITE)')/venv.pth"
	$(RAY)/bin/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts -e '.[ray]'
	touch $@

test-launchers: $(RAY)/.installed ## run sweeps on joblib, submitit (SLURM is faked) and Ray (5 minutes on 2 cores)
	$(BIN)/python -m pytest -rs -m launchers -k 'not [ray]' tests/launchers
	$(RAY)/bin/python -m pytest -rs -m launchers -k '[ray]' tests/launchers

check: $(STAMP) ## formatting, lint, types, YAML, and that every config composes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict conf .yamllint
	$(BIN)/python -m pytest tests/experiments/test_config.py

format: $(STAMP) ## format the code and sort its imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and caches; recorded runs stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info build
