#!/bin/bash
# Node 1 of 2: gpu-2, 10.0.0.2; to be started after the head.
# make deploy wrote this from configs/large.yaml, which is where to change it.
set -euo pipefail
cd /srv/conch
# the address of this node by which vLLM's other nodes know it
export VLLM_HOST_IP='10.0.0.2'
options=(
  # the head, and cluster.port on it
  --address=10.0.0.1:5000
  # the address of this node by which the others reach it
  --node-ip-address=10.0.0.2
  # of this node (cluster.gpus_per_node)
  --num-gpus=8
  # tell nobody outside
  --disable-usage-stats
  # stay for as long as Ray does, and take it along
  --block
)
# Started when the head answers, ended when it is gone, and started anew.
exec .venv-vllm/bin/python3 -m serving.follow 10.0.0.1:5000 .venv-vllm/bin/ray start "${options[@]}"
