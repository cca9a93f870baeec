"""The double of TensorRT-LLM 1.2.1, made of the recorded API (contract/engines/trtllm/api.json); see ../README.md."""

import os
import sys

# In a replica of the image (tests/images), what speaks for the double is out of everybody else's sight.
sys.path += filter(None, [os.environ.get("DOUBLE_PATH")])

from contract.engines.trtllm.api import version
from tensorrt_llm._llm import TorchLLM as LLM
from tensorrt_llm.llmapi import BuildConfig, SamplingParams

__version__ = version()
__all__ = ["LLM", "BuildConfig", "SamplingParams"]
