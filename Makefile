# Makes everything in .venv; needs Python 3.10 or later and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test deepspeed lint types cards clean

demo: $(VENV)/.installed
	$(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		scripts/finetune.py --config scripts/recipes/demo.yaml --output_dir $(DEMO) --overwrite_output_dir True
	$(BIN)/python scripts/try_model.py $(DEMO)

# Threads that wait sleep: spinning, they slow down the tests of the other processes many times over.
test deepspeed: export OMP_WAIT_POLICY := passive
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n logical --dist loadfile --no-loadscope-reorder

# The tests that need deepspeed, which is built without its kernels: they run on CPUs.
deepspeed: $(VENV)/.installed-dev
	DS_BUILD_OPS=0 $(INSTALL) deepspeed
	$(BIN)/python -m pytest -q -n 0 -m deepspeed tests/training/test_distributed.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The example cards, from the results beside them.
cards: $(VENV)/.installed
	$(BIN)/python scripts/card.py model_cards/*/

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is too old: Python 3.10 or later is needed; name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "the venv module is missing: install it (Debian: apt install python3-venv)" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV): torch, transformers and the like, some minutes the first time"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(INSTALL) -e '.[dev,tensorboard,demo,export,search]'
	@touch $@

clean:
	rm -rf $(VENV) runs
