"""The classes that the LLM API takes."""

from typing import Any

from contract.engines.trtllm.api import recorded
from tensorrt_llm._classes import named
from tensorrt_llm._results import CompletionOutput, RequestError, RequestOutput

__all__ = ["CompletionOutput", "RequestError", "RequestOutput", "TorchLlmArgs", "TrtLlmArgs"]

TrtLlmArgs = named("TensorRtLlm")
TorchLlmArgs = named("TorchLlm")


def __getattr__(name: str) -> Any:
    data = recorded()
    if name not in data["places"] and name[0].isupper() and (name in data["calls"] or name in data["enums"]):
        return named(name)
    raise AttributeError(name)
