# `make` lists the targets. Each target does its own set-up first; a finished set-up costs nothing.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3.11
NAME ?= fashion_mnist

# Stages start as `python`: the one of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.PHONY: help
help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/ /' | awk '{t=$$1; $$1=""; printf "  make %-17s%s\n", t, $$0}'

.PHONY: setup repository
setup: repository .venv/.installed .venv/.native  ## install the pinned packages into .venv and compile pixels/native.c

repository:
	@test -e .git || { echo "error: no git repository, which DVC needs: git init && git add --all && git commit -m start"; exit 1; }

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is not there or not Python 3.11; install that, or call make with PYTHON=/path/to/python3.11"; exit 1; }
	@echo 'installing the pinned packages into .venv (PyTorch is large: some minutes)'
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv/.native: .venv/.installed pixels/native.c pixels/build_native.py
	@python -m pixels.build_native
	@touch $@

.PHONY: repro
repro: setup  ## run the whole pipeline; stages that are up to date do not run again
	@dvc repro --quiet --force --single-item code  # what is installed may have changed, which DVC does not see
	@dvc repro

.PHONY: test
test: setup  ## run the tests
	@python -m pytest

.PHONY: test-networks
test-networks: setup  ## take a dozen networks of timm and torchvision through every form of the model (minutes)
	@python -m pytest -m networks tests/fixedpoint/test_networks.py

RUNTIMES = tflite_micro==0.dev20261023182759 openvino==2026.4.1 openvino-telemetry==2025.2.0 ethos-u-vela==5.2.0
OLD_ONNXRUNTIME = onnxruntime==1.20.1
# $(call beside,folder,packages): installs packages into runs/folder, unless it has them; what is missing fails later
beside = test "$$(cat runs/$(1)/pins 2>/dev/null)" = '$(2)' || { rm -rf runs/$(1) && mkdir -p runs/$(1) && missing=; \
	  for package in $(2); do python -m pip install -qq --no-deps --target runs/$(1) $$package || { missing=1; echo "error: $$package could not be installed"; }; done; \
	  test "$$missing" || echo '$(2)' > runs/$(1)/pins; }
.PHONY: test-runtimes
test-runtimes: setup  ## compare networks in every runtime, bit by bit: make test-runtimes NETWORKS=sample (default: all, minutes)
	@$(call beside,runtimes,$(RUNTIMES))
	@$(call beside,onnxruntime_old,$(OLD_ONNXRUNTIME))
	@PYTHONPATH=runs/runtimes NETWORKS='$(NETWORKS)' SIZE='$(SIZE)' python -m pytest -rs -m runtimes tests/runtimes

.PHONY: test-experiments
test-experiments: setup  ## test experiments, remotes, training by two processes and the documentation's commands (minutes)
	@python -m pytest -m experiments

.PHONY: test-faults
test-faults: setup  ## kill, starve and feed damage to every part: images, files, disks, processes (minutes)
	@python -m pytest -m faults

.PHONY: lint
lint: setup  ## check style, format and types of the code
	@ruff check . && ruff format --check . && mypy

.PHONY: pack count-ops train-float calibrate train-qat convert-int export-onnx export-c export-litert golden report model-card validate
pack: setup  ## pack images into databases in artifacts/db
	@dvc repro pack
count-ops: setup  ## count multiply-accumulates and parameters of the network
	@dvc repro count_ops
train-float: setup  ## train in float
	@dvc repro train_float
calibrate: setup  ## find the exponents of the fixed-point numbers
	@dvc repro calibrate
train-qat: setup  ## train with quantization awareness
	@dvc repro train_qat
convert-int: setup  ## convert the QAT model to the integer model
	@dvc repro convert_int
export-onnx: setup  ## write the float and int8 ONNX files, in artifacts/onnx
	@dvc repro export_onnx
export-c: setup  ## write the integer model as C99, in artifacts/c
	@dvc repro export_c
export-litert: setup  ## write the integer model for LiteRT and microcontrollers, in artifacts/litert
	@dvc repro export_litert
golden: setup  ## write every integer tensor of a few images, in artifacts/golden
	@dvc repro golden
report: setup  ## write what quantization costs layer by layer, artifacts/int/report.html
	@dvc repro report
model-card: setup  ## write network, data, recipe, results, files and limits, in artifacts/MODEL_CARD.md
	@dvc repro model_card
validate: setup  ## score every form of the model and prove that the integer forms agree
	@dvc repro compare
	@cat metrics/summary.md

.PHONY: watch
watch: setup  ## show curves and speed of the newest training, in the terminal
	@python -m tools.watch

STEP ?= int
.PHONY: predict
predict: setup  ## classify images: make predict IMAGE='cat.jpg dog.png' STEP=float (default: int)
	@test -n '$(IMAGE)' || { echo "error: no images; e.g. make predict IMAGE='cat.jpg dog.png'"; exit 1; }
	@python -m tools.predict --step $(STEP) $(IMAGE)

AGAINST ?= HEAD
.PHONY: diff gate
diff: setup  ## compare results and parameters with another revision: make diff AGAINST=main (default: HEAD)
	@dvc metrics diff --md $(AGAINST)
	@echo
	@dvc params diff --md $(AGAINST)
gate: setup  ## fail if the results are worse than params.yaml allows: make gate AGAINST=main (default: HEAD)
	@python -m tools.gate --against $(AGAINST)

JOBS ?= 2
TABLE = dvc exp show --no-pager --only-changed --drop '.*/|^(compared|macs|params)$$'
.PHONY: sweep experiments
sweep: setup  ## run an experiment for each learning rate, JOBS at a time: make sweep LR=0.02,0.05,0.1 JOBS=2
	@test -n '$(LR)' || { echo 'error: no learning rates; e.g. make sweep LR=0.02,0.05,0.1'; exit 1; }
	@dvc exp run --queue -S 'lr=$(LR)'
	@failed() { dvc queue status | grep -cw Failed; }; left() { dvc queue status | grep -qwE 'Queued|Running'; }; \
	  before=$$(failed); dvc queue start -j $(JOBS); \
	  while left; do pgrep -f 'exp queue-worker' >/dev/null || ! left || { echo 'error: the workers are gone; dvc queue start resumes the queue'; exit 1; }; sleep 5; done; \
	  $(TABLE); test $$(failed) -le $$before || { echo 'error: an experiment has failed; dvc queue logs NAME says why'; exit 1; }
experiments: setup  ## print the table of experiments
	@$(TABLE)

.PHONY: verify
verify: setup  ## read and decode every record of the databases
	@python -m tools.verify

.PHONY: recipe
recipe: setup  ## set params.yaml to recipes/NAME.yaml and print what changes: make recipe NAME=imagenet
	@python -m tools.recipe $(NAME)

ONLY ?= deploy
.PHONY: bench bench-deploy bench-quantize bench-data bench-train
bench: $(if $(filter $(ONLY),deploy quantize data train),bench-$(ONLY),$(error ONLY=$(ONLY) is not allowed, must be deploy, quantize, data or train))  ## measure speeds beside those of other tools: ONLY=deploy (default; NETWORK=resnet18 SIZE=224), quantize, data, train (DATA=1)

bench-deploy: setup
	@PYTHONPATH=$(wildcard runs/runtimes) python -m benchmarks deploy $(if $(NETWORK),--network $(NETWORK) --size $(or $(SIZE),224))

QUANTIZERS = torchao==0.18.0 brevitas==0.13.4 dependencies==2.0.1 unfoldNd==0.2.3
bench-quantize: setup
	@$(call beside,peers,$(QUANTIZERS))
	@PYTHONPATH=runs/peers python -m benchmarks quantize

LOADERS = webdataset==1.0.2 braceexpand==0.1.7
FFCV = ffcv==1.0.2 numba==0.68.1 llvmlite==0.50.0 opencv-python-headless==5.0.0.93 assertpy==1.1 terminaltables==3.1.10
bench-data: setup
	@$(call beside,data_peers,$(LOADERS))
	@$(call beside,ffcv,$(FFCV))
	@PYTHONPATH=runs/data_peers:runs/ffcv python -m benchmarks data

bench-train: setup
	@python -m benchmarks train $(if $(DATA),--data)

.PHONY: clean
clean:  ## remove what make can compute again: artifacts, runs, DVC's cache
	rm -rf artifacts runs .dvc/cache .dvc/tmp
