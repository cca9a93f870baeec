"""The engine path."""

from tensorrt_llm._llm import TensorRtLLM as LLM

__all__ = ["LLM"]
