#!/bin/bash
# Node 3 of 4: gpu-d, 10.0.0.4; to be started after the head.
# make deploy wrote this from configs/deepseek-r1-bf16-sglang.yaml, which is where to change it.
set -euo pipefail
cd /srv/conch
# NCCL's ranks meet over eth0, which reaches the head, and not over the first interface it finds (a container's bridge,
# say); the = means this name and none that begins with it
export NCCL_SOCKET_IFNAME='=eth0'
# Gloo's ranks too; it otherwise takes the address of the host's name, which is often 127.0.1.1
export GLOO_SOCKET_IFNAME='eth0'
# only these devices carry data; without the = mlx5_1 would mean mlx5_10 too
export NCCL_IB_HCA='=mlx5_0,mlx5_1,mlx5_2,mlx5_3'
# row 3 of each device's GID table is the address that the network routes (RoCE v2)
export NCCL_IB_GID_INDEX='3'
options=(
  # the engine that make engine published, at the same path on every node
  --model-path /srv/conch/engines/deepseek-r1-bf16-sglang/current
  # Python code in the checkpoint may run (engine.sglang.trust_remote_code)
  --trust-remote-code
  # of weights and activations (engine.precision)
  --dtype bfloat16
  # 32 GPUs share every layer: 4 nodes × 8 GPUs (engine.parallel.tensor)
  --tp-size 32
  # prompt and answer together, tokens (limits.max_seq_len), and six that SGLang keeps to itself
  --context-length 32774
  # in the batch at once (limits.max_batch_size), and one for the supervisor's canary
  --max-running-requests 65
  # tokens of a prompt in one step (limits.max_num_tokens)
  --chunked-prefill-size 8192
  # how many nodes there are (cluster.nodes)
  --nnodes 4
  # which of them this is; 0 is the head, which runs Triton
  --node-rank 3
  # where the nodes find each other: the head and cluster.port
  --dist-init-addr 10.0.0.1:5000
  # where the engine's own HTTP server listens: on the head where it runs alone, elsewhere its health (ports.host)
  --host 127.0.0.1
  # and its port (ports.http)
  --port 30000
)
# Started when the head answers, ended when it is gone, and started anew.
exec .venv-sglang/bin/python3 -m serving.follow 10.0.0.1:5000 .venv-sglang/bin/python3 -m sglang.launch_server "${options[@]}"
