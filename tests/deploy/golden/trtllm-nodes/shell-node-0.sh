#!/bin/bash
# Node 0 of 2: gpu-1, 10.0.0.1; the head, where Triton and the gateway run. Start it last.
# Inside nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3.
# make deploy wrote this from configs/large.yaml, which is where to change it.
set -euo pipefail
cd /srv/conch
if ! command -v ssh >/dev/null; then
  echo 'ssh is not in this image: apt-get install openssh-client, or make an image that has it' >&2
  exit 1
fi
# What the image lacks, over what it has, and the model repository.
python3 -m build.laid_over /srv/conch/deploy/rendered/large/state/venv --requirement /srv/conch/deploy/rendered/large/requirements.txt
/srv/conch/deploy/rendered/large/state/venv/bin/python -m build.repository configs/large.yaml
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
  # the nodes, the head first, and how many ranks each takes: one for every GPU
  -H '10.0.0.1:8,10.0.0.2:8'
  # ranks in all (engine.parallel)
  -n 16
  # which the image's user is
  --allow-run-as-root
  # where the other nodes' sshd listens (cluster.port)
  -mca plm_rsh_args '-p 5000'
  # as it is set here, on every rank
  -x NCCL_SOCKET_IFNAME
  # as it is set here, on every rank
  -x GLOO_SOCKET_IFNAME
  # as it is set here, on every rank
  -x NCCL_IB_HCA
  # as it is set here, on every rank
  -x NCCL_IB_GID_INDEX
)
exec mpirun "${options[@]}" /srv/conch/deploy/rendered/large/rank.sh
