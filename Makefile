# The commands a person needs. `make help` lists them.
PYTHON ?= python3
DATA ?=
PORT ?= 8888
# Of `make gpu`: minutes in all, folder of its results (runs/gpu), and cpu for a trial at toy sizes.
MINUTES ?= 9
OUT ?=
# Of `make faults`: sounds, files, stores, names, tests; by default all.
PARTS ?=
DEVICE ?= auto
# Processes that run tests; one of them executes the chapters. More to pytest: make test PYTEST_ARGS="-x -k resume".
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
# Named after what was installed: a changed lock file or pyproject gives another name, so a new install.
STAMP := $(VENV)/installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
CHECKED := audiossl_lite tests $(wildcard data_scripts notebooks)

# Threads that wait for work give their core away after a moment, as in the workers that run chapters
# (audiossl_lite/book/execute.py): beside another program a training step takes a fraction of the time.
QUIET := OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=1000 KMP_BLOCKTIME=1

.PHONY: help install book pdf test lint lab bench gpu faults strip clean distclean
.DEFAULT_GOAL := help

help:
	@echo "make book                run the chapters that changed, build the book, say where to open it"
	@echo "make book DATA=<folder>  the same on your own folder of audio"
	@echo "make pdf                 the built book as one file (needs Chromium or Chrome)"
	@echo "make test                check style and run all tests"
	@echo "make lab                 open the chapters in JupyterLab (PORT=8888)"
	@echo "make install             only install (book, test and the others do it when needed); make lint: style alone"
	@echo "make strip               remove results from notebooks/ before a commit"
	@echo "make gpu                 everything that needs a GPU, in MINUTES=9 (DATA=<folder of sounds>, OUT=runs/gpu)"
	@echo "make bench               time the library's fast paths beside the obvious ones"
	@echo "make faults              damage checkpoints, stores, sounds and names in hundreds of ways, record it (PARTS=sounds)"
	@echo "make clean               remove everything that was built (make distclean: also .venv)"
	@echo "PYTHON=python3.12 make book   choose the interpreter (3.11 or newer)"

install: $(STAMP)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON) is not Python 3.11 or newer; name one that is, for example: make book PYTHON=python3.12" >&2; exit 1; }
	@if [ -x $(BIN)/python ] && ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  echo "$(VENV) holds an unusable Python; making it again"; rm -rf $(VENV); fi
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (a few minutes the first time) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'from audiossl_lite import check_env; check_env()'
	@rm -f $(VENV)/installed-*
	@touch $@

book: $(STAMP)
	@$(BIN)/python -m audiossl_lite.book build --data "$(DATA)"

pdf: $(STAMP)
	@$(BIN)/python -m audiossl_lite.book pdf

lint: $(STAMP)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lab: $(STAMP)
	$(QUIET) $(BIN)/jupyter lab --notebook-dir=. --port=$(PORT) notebooks

bench: $(STAMP)
	$(QUIET) AUDIOSSL_PROGRESS=off $(BIN)/python -m tests.benchmarks

gpu: $(STAMP)
	@$(BIN)/python -m audiossl_lite gpu --data "$(DATA)" --minutes "$(MINUTES)" --out "$(OUT)" --device "$(DEVICE)"

faults: $(STAMP)
	$(BIN)/python -m tests.faults $(PARTS)
	$(BIN)/python -m tests.book.reference_pages

strip: $(STAMP)
	$(BIN)/nbstripout --keep-id --drop-tagged-cells "injected-parameters" --extra-keys \
	  "metadata.papermill metadata.widgets metadata.language_info cell.metadata.papermill cell.metadata.execution" \
	  notebooks/*.ipynb

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis lightning_logs
	find audiossl_lite tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) *.egg-info
