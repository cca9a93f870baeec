"""NVIDIA's other models as views of the same stages, and its inputs and Triton's parameters that are decided by name.

A view has other names for the stages' tensors: as an ensemble it is no process and costs no memory. Triton lets a
model either stream or answer ``infer``, never both, so what answers ``infer`` is a small process that asks a view.
Source: TensorRT-LLM 1.2.1, triton_backend/all_models/inflight_batcher_llm, and tensorrtllm_backend 0.7 to 0.18 for
the older names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contract.tensors import ENSEMBLE_ALIAS, INPUT_BY_NAME, INPUTS, MOMENTS, OUTPUT_BY_NAME, OUTPUTS, Decision, Tensor

TEXT_UNARY = "tensorrt_llm_bls"  # text in, text out, one response
TOKENS_UNARY = "tensorrt_llm"  # ids in, ids out, one response
TOKENS_STREAMING = "tensorrt_llm_streaming"  # ids in, ids out, responses as they come


def model_names(deployment: str) -> frozenset[str]:
    """The names under which a deployment's models are asked."""
    return frozenset((deployment, ENSEMBLE_ALIAS, TEXT_UNARY, TOKENS_UNARY, TOKENS_STREAMING))


_DECODER_ONLY = "Only an encoder-decoder model has a use for it."
_BEAMS_ONLY = "Only beam search has a use for it."

# What only the token-level model has.
TOKEN_INPUTS: tuple[Tensor, ...] = (
    Tensor("input_lengths", "INT32", doc="How many of input_ids are the prompt."),
    Tensor("stop_words_list", "INT32", (2, -1), doc="Token ids of the stop strings, and where each ends."),
    Tensor("bad_words_list", "INT32", (2, -1), doc="Token ids of the bad words, and where each ends."),
    Tensor("embedding_bias", "FP32", (-1,), doc="What is added to each token's logit."),
    Tensor(
        "stop",
        "BOOL",
        decision=Decision.NEUTRAL,
        neutral=(False,),
        doc="Cancel the request instead: future.cancel(), or stop_stream(cancel_requests=True).",
    ),
    Tensor("early_stopping", "BOOL", decision=Decision.ACCEPTED, doc=_BEAMS_ONLY),
    Tensor("beam_search_diversity_rate", "FP32", decision=Decision.ACCEPTED, doc=_BEAMS_ONLY),
    Tensor("decoder_input_ids", "INT32", (-1,), decision=Decision.ACCEPTED, doc=_DECODER_ONLY),
    Tensor("decoder_input_lengths", "INT32", decision=Decision.ACCEPTED, doc=_DECODER_ONLY),
)
TOKEN_OUTPUTS: tuple[Tensor, ...] = (
    Tensor(
        "beam_ids",
        "INT32",
        (-1, -1),
        doc="[1, 1, tokens]: those since the last response; of a whole answer the prompt's first, unless excluded.",
    ),
    Tensor("beam_lengths", "INT32", (-1,), doc="[1, 1]: how many those are."),
)
ALL_INPUTS = INPUTS + TOKEN_INPUTS
ALL_OUTPUTS = OUTPUTS + TOKEN_OUTPUTS
ALL_INPUT_BY_NAME = {tensor.name: tensor for tensor in ALL_INPUTS}

# Its name of ours, where they differ.
_TOKEN_LEVEL = {
    "request_output_len": "max_tokens",
    "streaming": "stream",
    "runtime_top_k": "top_k",
    "runtime_top_p": "top_p",
    "len_penalty": "length_penalty",
}
_TEXT_ONLY = (
    *("text_input", "stop_words", "bad_words", "embedding_bias_words", "embedding_bias_weights"),
    *("decoder_text_input", "num_draft_tokens", "use_draft_logits", "prompt_table_extra_id"),
)


@dataclass(frozen=True)
class View:
    """Tensors under the names of some model of NVIDIA's."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def _token_inputs() -> dict[str, Tensor]:
    theirs = {name: INPUT_BY_NAME[ours] for name, ours in _TOKEN_LEVEL.items()}
    same = {"input_ids": INPUT_BY_NAME["input_ids"]} | {
        tensor.name: tensor
        for tensor in INPUTS
        if not tensor.ours and tensor not in theirs.values() and tensor.name not in _TEXT_ONLY
    }
    return same | theirs | {tensor.name: tensor for tensor in TOKEN_INPUTS}


TEXT = View(INPUT_BY_NAME, OUTPUT_BY_NAME)
TOKENS = View(
    _token_inputs(),
    {"output_ids": TOKEN_OUTPUTS[0], "sequence_length": TOKEN_OUTPUTS[1]}
    | {
        name: OUTPUT_BY_NAME[name]
        for name in (
            *("cum_log_probs", "output_log_probs", "num_input_tokens", "num_output_tokens", "finish_reason"),
            *MOMENTS,
        )
    },
)

# NVIDIA's inputs that no model here declares: Triton refuses them as tensors, preprocess as fields of generate.
_NO_IMAGES = "The models served here read text"
_NO_PROMPT_TUNING = "Prompt tuning is not served here"
_NO_WEIGHTS = "Adapters are the deployment's: name one in lora_name"
NOT_SERVED: dict[str, str] = {
    "image_input": _NO_IMAGES,
    "image_bytes_input": _NO_IMAGES,
    "image_url_input": _NO_IMAGES,
    "video_bytes_input": _NO_IMAGES,
    "prompt_embedding_table": _NO_PROMPT_TUNING,
    "lora_weights": _NO_WEIGHTS,
    "lora_config": _NO_WEIGHTS,
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a request: what Triton makes of a field of ``generate`` that is no input, or a client sets."""

    decision: Decision
    doc: str
    neutral: tuple[object, ...] = ()


PARAMETERS: dict[str, Parameter] = {
    "id": Parameter(Decision.HONOURED, "The request's id, which comes back with the answer."),
    "timeout": Parameter(Decision.HONOURED, "Triton's own, in microseconds: the engine stops; 0: never."),
    "model": Parameter(Decision.NEUTRAL, "Must be a name of the model that is asked."),
    "priority": Parameter(Decision.NEUTRAL, "Requests are served in the order of their arrival.", neutral=(0,)),
    "sequence_id": Parameter(Decision.NEUTRAL, "No state is kept between requests.", neutral=(0, "")),
    "sequence_start": Parameter(Decision.NEUTRAL, "No state is kept between requests.", neutral=(False,)),
    "sequence_end": Parameter(Decision.NEUTRAL, "No state is kept between requests.", neutral=(False,)),
    "accumulate_tokens": Parameter(
        Decision.ACCEPTED, "A setting of NVIDIA's server, which reads none from a request; bench tools send it."
    ),
    "Streaming": Parameter(Decision.ACCEPTED, "NVIDIA's client says again what its tensor says."),
}
