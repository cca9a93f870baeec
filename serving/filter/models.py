"""Which of a repository's models answer a request by a stream of responses.

Triton 2.51 aborts where one call has requests for models of both kinds, and what it does not find counts as of the
other: it begins to write a response while another is being written (proto_buffer_writer.h: !byte_buffer->Valid()).
"""

from collections.abc import Mapping
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig


def streaming_models(repository: Path) -> frozenset[str]:
    """The names of those that do, of themselves or by a step of theirs."""
    found = [text_format.Parse(path.read_text(), ModelConfig()) for path in repository.glob("*/config.pbtxt")]
    configs = {config.name: config for config in found}
    return frozenset(name for name in configs if _streams(name, configs))


def _streams(name: str, configs: Mapping[str, ModelConfig]) -> bool:
    config = configs[name]
    own = config.model_transaction_policy.decoupled
    return own or any(_streams(step.model_name, configs) for step in config.ensemble_scheduling.step)
