# `make` lists the targets. Each target does its own set-up first; a finished set-up costs nothing.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3.11
NAME ?= fashion_mnist

# What is misspelt stops before anything runs. Names with an underscore are variables of the environment.
VARIABLES = PYTHON IMAGE STEP AGAINST LR JOBS NAME NETWORKS NETWORK SIZE ONLY QUICK DATA UPGRADE YES MODEL CHECKPOINT IMAGES OPTIONS
TARGETS = $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))
given = $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(if $(findstring _,$(name)),,$(name))))
ifeq ($(MAKELEVEL),0)
$(foreach name,$(filter-out $(VARIABLES),$(given)),$(error there is no variable $(name), must be one of $(VARIABLES)))
$(foreach goal,$(filter-out $(TARGETS) .venv/%,$(MAKECMDGOALS)),$(error there is no target $(goal); make help lists them, and values have commas or quotation marks))
endif

# Stages start as `python`: the one of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

# DVC needs a home that can be written and a name of the user, which `docker --user` does not give.
export USER := $(or $(USER),$(shell id -u))
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export HOME := $(or $(TMPDIR),/tmp)/home-$(shell id -u)
ifneq ($(shell mkdir -p -m 700 '$(HOME)' && test -O '$(HOME)' && echo yes),yes)
$(error $(HOME) cannot be a home for this user: set HOME to a folder that you can write)
endif
endif

.PHONY: help
help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/ /' | awk '{t=$$1; $$1=""; printf "  make %-17s%s\n", t, $$0}'

.PHONY: setup repository
setup: repository .venv/.installed .venv/.native  ## install the pinned packages into .venv and compile pixels/native.c

repository:
	@why=$$(LC_ALL=C git rev-parse --git-dir 2>&1) || { case "$$why" in *'not a git repository'*) \
	  why='no git repository, which DVC needs: git init && git add --all && git commit -m start';; esac; echo "error: $$why"; exit 1; }

# What pip is at, in one line that is written again; where the output is no terminal, a line for every 20th package.
progress = awk -v all="$$(grep -c == requirements/environment.txt)" -v tty="$$(test -t 2 && echo 1)" '/^ *(Collecting|Downloading|Installing)/ { \
	  n += /^Collecting/; text = n " of at most " all ": " $$1 " " (/^Installing/ ? "them" : $$2) (/Downloading/ ? " " $$3 " " $$4 : ""); \
	  if (tty) printf "\r\033[K%s", substr(text, 1, 79); else if (/^Collecting/ ? n % 20 == 0 : /^Installing/) print substr(text, 1, 79); fflush() } \
	  END { if (tty) print "" }'
.venv/.installed: requirements/build.txt requirements/environment.txt
	@"$$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "error: $$PYTHON is not there or not Python 3.11, 3.12 or 3.13; install one (uv python install 3.11 does), or call make with PYTHON=/path/to/python"; exit 1; }
	@echo 'installing the pinned packages into .venv (PyTorch is large: some minutes)'
	@"$$PYTHON" -m venv --clear .venv
	@.venv/bin/python -m pip install -qq --require-hashes --requirement requirements/build.txt
	@{ .venv/bin/python -m pip install --progress-bar off --require-hashes --no-build-isolation --requirement requirements/environment.txt && \
	  touch $@; } | $(progress) && test -e $@

.venv/.native: .venv/.installed pixels/native.c pixels/build_native.py
	@python -m pixels.build_native
	@touch $@

.PHONY: repro
# A colleague who has pulled the databases needs no images: where pack.root is not there, the stage that reads it stays.
root = $$(sed -nE "s/^  root: *[\"']?([^\"'\#]*[^\"'\# ]).*/\1/p" params.yaml)
missing = $$(test -e "$(root)" || ! test -e artifacts/db || echo --allow-missing)
repro: setup  ## run the whole pipeline; stages that are up to date do not run again
	@test -e artifacts || dvc checkout --quiet --allow-missing  # what DVC's cache has of the results in dvc.lock
	@dvc repro --quiet --force --single-item code  # what is installed may have changed, which DVC does not see
	@dvc repro $(missing)

.PHONY: test
test: setup  ## run the tests
	@python -m pytest

.PHONY: test-networks
test-networks: setup  ## take networks through every form of the model (minutes); NETWORKS=all: docs/families.md, anew (most of an hour)
	@python -m pytest -m networks $(if $(NETWORKS),,tests/fixedpoint/test_networks.py) tests/fixedpoint/test_families.py

# $(call beside,group): installs a group of pyproject.toml into runs/group, unless it is there; what is missing fails later
beside = cmp -s requirements/$(1).txt runs/$(1)/pins || { rm -rf runs/$(1) && mkdir -p runs/$(1) && \
	  python -m pip install -qq --no-deps --no-build-isolation --require-hashes --target runs/$(1) --requirement requirements/$(1).txt && \
	  cp requirements/$(1).txt runs/$(1)/pins || echo "error: the packages of requirements/$(1).txt could not be installed"; }
.PHONY: test-runtimes
test-runtimes: setup  ## compare networks in every runtime, bit by bit: make test-runtimes NETWORKS=sample (default: all, minutes)
	@$(call beside,runtimes)
	@$(call beside,onnxruntime_old)
	@PYTHONPATH=runs/runtimes python -m pytest -rs -m runtimes tests/runtimes

.PHONY: test-experiments
test-experiments: setup  ## test experiments, remotes, training by two processes and the documentation's commands (minutes)
	@python -m pytest -m experiments

.PHONY: test-faults
test-faults: setup  ## kill, starve and feed damage to every part: images, files, disks, processes (minutes)
	@python -m pytest -m faults

.PHONY: lint
lint: setup  ## check style, format, types and declared packages of the code
	@ruff check . && ruff format --check . && mypy && python -m pip check
	@found=$$(deptry . 2>&1) || { echo "$$found"; exit 1; }

BESIDE = runtimes onnxruntime_old peers photographs data_peers ffcv litert_peers
pins_of = UV_CUSTOM_COMPILE_COMMAND='make pins' uv pip compile --quiet --universal --python-version 3.11 --generate-hashes
.PHONY: pins licences
pins: setup  ## write requirements/, versions and digests of all packages, from pyproject.toml; UPGRADE=idna==3.20: of another, too
	@$(pins_of) pyproject.toml --group build --group dev $(if $(UPGRADE),--upgrade-package "$$UPGRADE") --output-file requirements/environment.txt
	@for group in build $(BESIDE); do $(pins_of) --no-deps --group $$group --output-file requirements/$$group.txt || exit; done
licences: setup  ## list the licence of each package; fail if one is not among those of pyproject.toml
	@pip-licenses

.PHONY: pack overlap count-ops train-float calibrate train-qat convert-int export-onnx export-c export-litert golden report model-card validate
pack: setup  ## pack images into databases in artifacts/db
	@dvc repro pack
overlap: setup  ## look for validation images that are training images, too
	@dvc repro overlap
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
	@test -n "$$IMAGE" || { echo "error: no images; e.g. make predict IMAGE='cat.jpg dog.png'"; exit 1; }
	@python -m tools.predict --step "$$STEP" $(IMAGE)

.PHONY: inspect
inspect: setup  ## say what quantization makes of a network: make inspect NETWORK=resnet18 SIZE=224 (default: that of params.yaml)
	@python -m tools.inspect $(if $(NETWORK),"$$NETWORK") $(if $(SIZE),--size "$$SIZE")

.PHONY: quantize
quantize: setup  ## quantize a trained network as it is: make quantize MODEL=resnet18 CHECKPOINT=best.ckpt IMAGES=photos OPTIONS='--size 64'
	@test -n "$$MODEL" -a -n "$$CHECKPOINT" || { echo 'error: name both; e.g. make quantize MODEL=resnet18 CHECKPOINT=best.ckpt IMAGES=photos'; exit 1; }
	@python -m tools.quantize "$$MODEL" "$$CHECKPOINT" $(if $(IMAGES),"$$IMAGES") $(OPTIONS)

AGAINST ?= HEAD
.PHONY: diff gate page
diff: setup  ## compare results and parameters with another revision: make diff AGAINST=main (default: HEAD)
	@dvc metrics diff --md "$$AGAINST"
	@echo
	@dvc params diff --md "$$AGAINST"
page: setup  ## write the results on one page that needs no internet, artifacts/index.html; beside another revision's: make page AGAINST=main
	@python -m tools.page $(if $(filter command environment,$(origin AGAINST)),--against "$$AGAINST")
gate: setup  ## fail if the results are worse than params.yaml allows: make gate AGAINST=main (default: HEAD)
	@python -m tools.gate --against "$$AGAINST"

JOBS ?= 2
# DVC matches names from their start, and where the output is no terminal takes it for one of 80 columns.
TABLE = COLUMNS=$${COLUMNS:-110} dvc exp show --no-pager --only-changed --keep '(lr|float_top1|int_top1)$$' \
	--drop '.*/|(compared|executions|macs|params|ptq_top1|qat_top1|int_top1_drop)$$'
.PHONY: sweep experiments
sweep: setup  ## run an experiment for each learning rate, JOBS at a time: make sweep LR=0.02,0.05,0.1 JOBS=2
	@test -n "$$LR" || { echo 'error: no learning rates; e.g. make sweep LR=0.02,0.05,0.1'; exit 1; }
	@printf %s "$$LR" | grep -qxE '[0-9.e-]+(,[0-9.e-]+)*' || { echo "error: LR=$$LR is not allowed, must be numbers with commas between them, such as 0.02,0.05,0.1"; exit 1; }
	@printf %s "$$JOBS" | grep -qxE '[1-9][0-9]*' || { echo "error: JOBS=$$JOBS is not allowed, must be 1 or more"; exit 1; }
	@dvc exp run --queue $(missing) -S "lr=$$LR"
	@failed() { dvc queue status | grep -cw Failed; }; left() { dvc queue status | grep -qwE 'Queued|Running'; }; \
	  before=$$(failed); dvc queue start -j "$$JOBS"; \
	  while left; do pgrep -f 'exp queue-worker' >/dev/null || ! left || { echo 'error: the workers are gone; dvc queue start resumes the queue'; exit 1; }; sleep 5; done; \
	  $(TABLE); test $$(failed) -le $$before || { echo 'error: an experiment has failed; dvc queue logs NAME says why'; exit 1; }
experiments: setup  ## print the table of experiments
	@$(TABLE)

.PHONY: verify
verify: setup  ## read every record of the databases, and compare results and DVC's cache with their digests
	@python -m tools.verify

.PHONY: new
new: setup  ## look at your images and write the params.yaml that fits them: make new DATA=DIR (NETWORK=resnet18 CHECKPOINT=best.pt SIZE=224)
	@test -n "$$DATA" || { echo 'error: no images; e.g. make new DATA=photos'; exit 1; }
	@python -m tools.new $(if $(NETWORK),--network "$$NETWORK") $(if $(CHECKPOINT),--checkpoint "$$CHECKPOINT") $(if $(SIZE),--size "$$SIZE") -- "$$DATA"

.PHONY: recipe
recipe: setup  ## set params.yaml to recipes/NAME.yaml and print what changes: make recipe NAME=imagenet
	@python -m tools.recipe "$$NAME"

PARTS = data train quantize deploy scale
ALONE = finetune
PEERS_finetune = photographs
PEERS_data = data_peers ffcv
PEERS_quantize = peers
PEERS_deploy = runtimes peers litert_peers
ONLY ?= $(PARTS)
EMPTY :=
.PHONY: bench
bench: setup  ## measure all beside other projects, into docs/benchmarks.md: ONLY=data, train (DATA=1), quantize, deploy (NETWORK=resnet18 SIZE=224), scale; finetune, which is no part of all; QUICK=1; AGAINST=docs/benchmarks.json
	@$(foreach part,$(ONLY),$(if $(filter $(part),$(PARTS) $(ALONE)),,$(error ONLY=$(part) is not allowed, must be of $(PARTS) $(ALONE))))
	@$(foreach group,$(foreach part,$(ONLY),$(PEERS_$(part))),$(call beside,$(group));)
	@failed=0; $(foreach part,$(ONLY),PYTHONPATH=$(subst $(EMPTY) $(EMPTY),:,$(PEERS_$(part):%=runs/%)) python -m benchmarks \
	  --into $(if $(QUICK)$(NETWORK),runs/bench,docs) $(if $(filter command,$(origin AGAINST)),--against "$$AGAINST") $(part) \
	  $(if $(QUICK),--quick) $(if $(filter train,$(part)),$(if $(DATA),--data)) \
	  $(if $(filter deploy,$(part)),$(if $(NETWORK),--networks "$$NETWORK:$(or $(SIZE),224)")) || failed=1;) exit $$failed

# What takes hours to make again stays: the trainings in runs/, the experiments and results in .dvc/cache.
.PHONY: clean clean-all
clean:  ## remove artifacts (dvc checkout brings them back), packages of benchmarks and caches of tools
	rm -rf artifacts $(BESIDE:%=runs/%) .mypy_cache .ruff_cache .pytest_cache .hypothesis
clean-all:  ## remove all trainings and experiments, too: runs and DVC's cache; asks first, or make clean-all YES=1
	@test "$$YES" = 1 || { test -t 0 && printf 'remove all trainings and experiments, runs and .dvc/cache? [y/N] ' && read answer && test "$$answer" = y; } || \
	  { echo 'error: nothing is removed; make clean-all YES=1 removes runs and .dvc/cache without asking'; exit 1; }
	rm -rf artifacts runs .dvc/cache .dvc/tmp .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Recipes take values out of the environment, in quotation marks, so that these may hold any character.
export $(VARIABLES)
