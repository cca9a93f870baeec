#!/bin/bash
# Node 1 of 2: gpu-2, 10.0.0.2; to be started before the head.
# Inside nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3.
# make deploy wrote this from configs/large.yaml, which is where to change it.
set -euo pipefail
cd /srv/conch
if ! command -v /usr/sbin/sshd >/dev/null; then
  echo '/usr/sbin/sshd is not in this image: apt-get install openssh-server, or make an image that has it' >&2
  exit 1
fi
# What the image lacks, over what it has.
python3 -m build.laid_over /srv/conch/deploy/rendered/large/state/venv --requirement /srv/conch/deploy/rendered/large/requirements.txt
# The head's mpirun comes in here (cluster.port).
mkdir -p /run/sshd && exec /usr/sbin/sshd -D -p 5000
