#!/bin/bash
# Node 0 of 1: gpu-1, 10.0.0.1; the head, where Triton and the gateway run. Start it first.
# make deploy wrote this from configs/large.yaml, which is where to change it.
set -euo pipefail
cd /srv/conch
options=(
  # the engine that make engine published, at the same path on every node
  --model-path /srv/conch/engines/large/current
  # of weights and activations (engine.precision)
  --dtype bfloat16
  # 2 GPUs share every layer: 1 nodes × 2 GPUs (engine.parallel.tensor)
  --tp-size 2
  # prompt and answer together, tokens (limits.max_seq_len), and six that SGLang keeps to itself
  --context-length 2054
  # in the batch at once (limits.max_batch_size), and one for the supervisor's canary
  --max-running-requests 65
  # tokens of a prompt in one step (limits.max_num_tokens)
  --chunked-prefill-size 512
  # the CPU's experts, as kt-kernel converted them (engine.sglang.kt.weight_path)
  --kt-weight-path /models/experts-amxint4
  # of every layer, on the GPUs; the CPU has the rest (engine.sglang.kt.num_gpu_experts)
  --kt-num-gpu-experts 8
  # threads that compute experts (engine.sglang.kt.cpuinfer)
  --kt-cpuinfer 60
  # one pool of threads for each NUMA node (engine.sglang.kt.threadpool_count)
  --kt-threadpool-count 2
  # how the CPU's experts are quantized (engine.sglang.kt.method)
  --kt-method AMXINT4
  # where the engine's own HTTP server listens: on the head where it runs alone, elsewhere its health (ports.host)
  --host 127.0.0.1
  # and its port (ports.http)
  --port 8000
)
# ./node-0.sh engine: the engine without Triton, to tell a fault of the cluster from one of ours.
if [[ ${1:-} == engine ]]; then
  exec .venv-sglang/bin/python3 -m sglang.launch_server "${options[@]}"
fi
# The server. Its engine stage runs rank 0, with these options but for host and port.
exec make serve CONFIG=configs/large.yaml
