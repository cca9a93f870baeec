#!/bin/bash
# Node 1 of 2: gpu-2, 10.0.0.2; to be started before the head.
# Inside nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3.
# make deploy wrote this from configs/large.yaml, which is where to change it.
set -euo pipefail
cd /srv/conch
# The head's mpirun comes in here (cluster.port).
mkdir -p /run/sshd && exec /usr/sbin/sshd -D -p 5000
