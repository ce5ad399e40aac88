# make help lists the targets. PYTHON, VENV and RESULTS can be set: make plots RESULTS=my_results
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RESULTS ?= results
EXTRAS ?= dev
RUN = $(VENV)/bin/python
# The report needs no torch: where `make setup` has not run, it has an environment of its own, with what it imports.
REPORT = $(if $(wildcard $(VENV)/ready),$(VENV),$(VENV)/plots)
REPORT_IMPORTS = filelock jinja2 matplotlib numpy omegaconf pandas scipy

# mergekit and what it imports beyond constraints.txt. Its pins clash with ours, hence its own folder and --no-deps.
PEER = mergekit==0.1.4 immutables==0.21 accelerate==1.15.0 peft==0.21.2 pydantic==2.10.6 pydantic_core==2.27.2

# lm-eval-harness and what it imports beyond constraints.txt and PEER.
LM_EVAL = lm_eval==0.4.13 absl-py==2.5.1 chardet==7.7.0 colorama==0.4.6 dataproperty==1.1.1 evaluate==0.4.6 \
	jsonlines==4.0.0 lxml==6.1.3 mbstrdecoder==1.1.5 more-itertools==11.2.1 pathvalidate==3.3.1 portalocker==4.4.2 \
	pytablewriter==1.2.1 rouge-score==0.1.2 sacrebleu==2.6.0 sqlitedict==2.1.0 tabledata==1.3.5 tabulate==0.10.0 \
	tcolorpy==0.1.7 tqdm-multiprocess==0.0.11 typepy==2.0.0 word2number==1.1

# Its pin of cloudpickle clashes with joblib's and its other requirements serve AWS alone, hence --no-deps.
RAY_LAUNCHER = hydra-ray-launcher==1.2.2

.PHONY: help setup setup-ray demo check-install reproduce test test-peer test-ray test-slow mutants bench plots check-plots
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/ready ## a virtual environment with everything pinned

$(VENV)/ready: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

setup-ray: setup ## what launcher=ray needs (250 MB)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS),ray]'
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps $(RAY_LAUNCHER)

demo: setup ## a small corpus of real text, three models and the parent of two, their records and figures (in demo/figures)
	$(RUN) -m soe_bench +sweep=demo

check-install: demo ## the demo against its expected values: says pass or fail
	$(RUN) -m soe_bench.report.install demo

reproduce: setup ## one run of the demo from nothing, against its expected values: says pass or fail, in about 3 minutes
	rm -rf reproduced
	$(RUN) -m soe_bench +sweep=demo method=soup results_dir=reproduced home=reproduced/home
	$(RUN) -m soe_bench.report.install reproduced "soup n=16"

test: setup ## lint, types and tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: setup ## the tests that take longer: every method, kills, whole runs
	$(RUN) -m pytest -n 2 --dist loadfile -m slow

$(VENV)/peer/ready: $(VENV)/ready
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/peer $(PEER) $(LM_EVAL)
	touch $@

test-peer: $(VENV)/peer/ready ## the merges against mergekit, tensor by tensor; a specialist under lm-eval-harness
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	PYTHONPATH=$(VENV)/peer $(RUN) -m pytest -m peer

mutants: setup ## how many changes of the code the tests notice, by file; hours, in the folder mutants; goes on where it was
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,mutants]'
	OMP_NUM_THREADS=1 $(RUN) -m mutmut run
	$(RUN) tests/helpers/mutants.py

test-ray: setup-ray ## two jobs on Ray
	$(RUN) -m pytest tests/runs/test_launchers.py -k ray

bench: $(VENV)/peer/ready ## time and memory beside their limits, into results/bench.json; on an idle machine
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	PYTHONPATH=$(VENV)/peer $(RUN) -m soe_bench.bench

$(VENV)/plots/ready: constraints.txt
	$(PYTHON) -m venv $(VENV)/plots
	$(VENV)/plots/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(REPORT_IMPORTS)
	touch $@

plots: $(REPORT)/ready ## every table and figure from the committed results alone; needs no torch
	$(REPORT)/bin/python -m soe_bench.report $(RESULTS)

check-plots: $(REPORT)/ready ## fails if the committed tables are not what make plots writes
	$(REPORT)/bin/python -m soe_bench.report --check $(RESULTS)
