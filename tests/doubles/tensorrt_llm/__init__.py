"""The double of TensorRT-LLM 1.2.1, made of the recorded API (contract/trtllm_api.json); see ../README.md."""

from contract.trtllm_api import version
from tensorrt_llm._llm import TorchLLM as LLM
from tensorrt_llm.llmapi import BuildConfig, SamplingParams

__version__ = version()
__all__ = ["LLM", "BuildConfig", "SamplingParams"]
