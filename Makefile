# The words of this file are the words of CI. `make` alone prints them.
.DEFAULT_GOAL := help
.PHONY: help install speak test lint format parity-full bench docs lock-dev clean
.ONESHELL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export RUNPOD_VOLUME ?= $(CURDIR)/.volume
export RUNPOD_SKIP_AUTO_SYSTEM_CHECKS ?= true
export RUNPOD_SKIP_GPU_CHECK ?= true

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s'|'

install: $(STAMP)  ## the development environment in .venv, every package by hash

# uv comes from its own hash-locked list where the machine has none.
$(STAMP): requirements/dev.txt requirements/uv.txt
	@if [ ! -x $(BIN)/python ]; then $(PYTHON) -m venv $(VENV); fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt requirements/uv.txt
	touch $@

lock-dev: install  ## resolve pyproject.toml into requirements/, by hash
	$(BIN)/uv pip compile pyproject.toml --group dev --generate-hashes --no-build --no-emit-index-url \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_31 --no-header -q -o requirements/dev.txt
	$(BIN)/uv pip compile requirements/uv.in --generate-hashes --no-build --no-emit-index-url \
	  --python-platform x86_64-manylinux_2_17 --no-header -q -o requirements/uv.txt
