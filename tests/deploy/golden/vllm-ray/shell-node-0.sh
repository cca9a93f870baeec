#!/bin/bash
# Node 0 of 2: gpu-1, 10.0.0.1; the head, where Triton and the gateway run. Start it first.
# make deploy wrote this from configs/large.yaml, which is where to change it.
set -euo pipefail
cd /srv/conch
# the address of this node by which vLLM's other nodes know it
export VLLM_HOST_IP='10.0.0.1'
# the Ray that the engine joins
export RAY_ADDRESS='10.0.0.1:5000'
options=(
  # the node that keeps Ray's book
  --head
  # where the other nodes find it (cluster.port)
  --port=5000
  # the address of this node by which the others reach it
  --node-ip-address=10.0.0.1
  # of this node (cluster.gpus_per_node)
  --num-gpus=8
  # tell nobody outside
  --disable-usage-stats
)
.venv-vllm/bin/ray start "${options[@]}" --block &
ray=$!
trap 'kill "$ray"' EXIT
until (: </dev/tcp/10.0.0.1/5000) 2>/dev/null; do sleep 1; done
# The server. Its engine joins this Ray, and waits until it has the GPUs of every node.
make serve CONFIG=configs/large.yaml
