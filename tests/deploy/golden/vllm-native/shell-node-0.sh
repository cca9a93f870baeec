#!/bin/bash
# Node 0 of 2: gpu-1, 10.0.0.1; the head, where Triton and the gateway run. Start it first.
# make deploy wrote this from configs/large.yaml, which is where to change it.
set -euo pipefail
cd /srv/conch
# the address of this node by which vLLM's other nodes know it
export VLLM_HOST_IP='10.0.0.1'
# NCCL's ranks meet over bond0, which reaches the head, and not over the first interface it finds (a container's bridge,
# say); the = means this name and none that begins with it
export NCCL_SOCKET_IFNAME='=bond0'
# Gloo's ranks too; it otherwise takes the address of the host's name, which is often 127.0.1.1
export GLOO_SOCKET_IFNAME='bond0'
# only these devices carry data; without the = mlx5_1 would mean mlx5_10 too
export NCCL_IB_HCA='=mlx5_0,mlx5_1'
# row 3 of each device's GID table is the address that the network routes (RoCE v2)
export NCCL_IB_GID_INDEX='3'
options=(
  # the engine that make engine published, at the same path on every node
  /srv/conch/engines/large/current
  # of weights and activations (engine.precision)
  --dtype bfloat16
  # prompt and answer together, tokens (limits.max_seq_len)
  --max-model-len 2048
  # in the batch at once (limits.max_batch_size), and one for the supervisor's canary
  --max-num-seqs 65
  # tokens in one engine step (limits.max_num_tokens)
  --max-num-batched-tokens 512
  # 8 GPUs share every layer: 2 nodes × 8 GPUs in 2 stages (engine.parallel.tensor)
  --tensor-parallel-size 8
  # the layers are 2 stages, one behind the other (engine.parallel.pipeline)
  --pipeline-parallel-size 2
  # a request's parameters are the contract's, not the checkpoint's
  --generation-config vllm
  # of each GPU, for weights and KV cache (engine.vllm.gpu_memory_utilization)
  --gpu-memory-utilization 0.9
  # vLLM's own processes on every node (engine.vllm.distributed_executor_backend)
  --distributed-executor-backend mp
  # how many nodes there are (cluster.nodes)
  --nnodes 2
  # which of them this is; 0 is the head, which runs Triton
  --node-rank 0
  # where the nodes find each other: the head
  --master-addr 10.0.0.1
  # and cluster.port on it
  --master-port 5000
  # where the engine's own HTTP server listens: on the head where it runs alone, elsewhere its health (ports.host)
  --host 127.0.0.1
  # and its port (ports.http)
  --port 8000
)
# ./node-0.sh engine: the engine without Triton, to tell a fault of the cluster from one of ours.
if [[ ${1:-} == engine ]]; then
  exec .venv-vllm/bin/vllm serve "${options[@]}"
fi
# The server. Its engine stage runs rank 0, with these options but for host and port.
exec make serve CONFIG=configs/large.yaml
