# One command each: `make demo`, `make test`, `make lint`. Needs GNU make and Python 3.11 or newer.
# Everything is installed into .venv, again only when a requirements file has changed.

PYTHON ?= python3#       interpreter that .venv is made with
TORCH_INDEX ?=#          wheel index to take torch from; empty means pip's own
ARGS ?=#                 extra arguments for pytest (and --help for the page)
WORKERS ?= 2#            processes of `make test`, a thread each; 0: none but pytest itself

VENV := .venv
PY   := $(VENV)/bin/python
RUN  := $(VENV)/.installed-requirements#        stamps: touched only after pip succeeded
DEV  := $(VENV)/.installed-requirements-dev

export OMP_WAIT_POLICY ?= PASSIVE#              idle threads sleep: spinning ones starve few cores
export GRADIO_ANALYTICS_ENABLED ?= False
export PIP_DISABLE_PIP_VERSION_CHECK := 1

CHECK = import sys; v = sys.version_info; \
	v >= (3, 11) or sys.exit("DD2 needs Python 3.11 or newer, and %s is %d.%d: \
	delete .venv if there is one, then name another, as in make demo PYTHON=python3.12" \
	% (sys.executable, v[0], v[1]))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint web lock clean

help:
	@echo "make demo    the page: teacher and one-step generator side by side in the browser"
	@echo "make test    all tests (ARGS='-k score' for some)"
	@echo "make lint    style and docstrings (ruff), types (mypy), import rules (import-linter)"
	@echo "make web     build/web: the page that runs in the visitor's browser (needs npm)"
	@echo "make lock    write what is installed, with hashes, to requirements.lock"
	@echo "make clean   remove caches and build output; .venv/ and runs/ stay"
	@echo
	@echo "No GPU? A CUDA build of torch is 5.5 GB, this one is not:"
	@echo "  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu"
	@echo "Another Python: make demo PYTHON=python3.12"

demo test: export HF_HUB_OFFLINE ?= 1#          the shipped weights are all they need

demo: $(RUN)
	$(PY) app.py $(ARGS)

test: $(RUN) $(DEV)
	$(PY) -m pytest --numprocesses $(WORKERS) --durations=15 $(ARGS)

# Only `check`: the code is formatted by hand, formulas above all. mypy reads torch's types.
lint: $(RUN) $(DEV)
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

web: $(RUN) $(DEV)
	$(PY) -m app.static_page.assemble $(ARGS)

# The lock is of PyPI's own torch, which brings CUDA on Linux: take TORCH_INDEX= for it.
lock: $(RUN) $(DEV)
	$(PY) -m pip freeze | grep -E '^[A-Za-z0-9_.-]+==' > $(VENV)/tested.txt
	$(PY) -m pip install "uv>=0.9,<1"
	printf '%s\n' '# What was tested last, with hashes; the ranges are in requirements.txt and' \
	  '# requirements-dev.txt. For Python 3.11 on Linux, x86-64 (torch brings CUDA there):' \
	  '#   pip install --require-hashes -r requirements.lock' '# Made by `make lock`.' \
	  > requirements.lock
	$(VENV)/bin/uv pip compile --quiet --python $(PY) --no-config --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --constraints $(VENV)/tested.txt \
	  requirements.txt requirements-dev.txt >> requirements.lock

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage tests/artifacts
	find . -name $(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here: install Python 3.11 \
	or newer, or name it, as in make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c '$(CHECK)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual \
	environments: install Debian's python3-venv, or your system's name for it" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN): requirements.txt | $(PY)
	@$(PY) -c '$(CHECK)'
	@if [ -n "$(TORCH_INDEX)" ]; then \
	  grep -E '^torch(vision)?[<>=]' requirements.txt > $(VENV)/torch.txt && \
	  $(PY) -m pip install --index-url "$(TORCH_INDEX)" -r $(VENV)/torch.txt; \
	fi
	$(PY) -m pip install -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt | $(PY)
	@$(PY) -c '$(CHECK)'
	$(PY) -m pip install -r requirements-dev.txt
	@touch $@
