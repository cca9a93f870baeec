#!/bin/bash
# A rank in TensorRT-LLM's image. make deploy wrote this from configs/large.yaml, which is where to change it.
# Rank 0 is the server; the launcher makes workers of all others, with the first python3 on PATH.
export PATH=/srv/conch/deploy/rendered/large/state/venv/bin:$PATH
exec trtllm-llmapi-launch python3 -m serving serve configs/large.yaml
