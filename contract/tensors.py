"""The ensemble's tensors: names, dtypes and dims, as NVIDIA's inflight_batcher_llm ensemble has them.

Source: TensorRT-LLM 1.2.1, triton_backend/all_models/inflight_batcher_llm/ensemble/config.pbtxt.
Dims leave out the batch dimension, which is always 1: a prompt is [1, 1] on the wire.
"""

from dataclasses import dataclass
from enum import StrEnum

MAX_BATCH_SIZE = 1
ENSEMBLE_ALIAS = "ensemble"  # NVIDIA's clients ask for this model name


class FinishReason(StrEnum):
    """Why a stream ended."""

    STOP = "stop"  # end of sequence, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True)
class Tensor:
    """One input or output. ``ours``: not in NVIDIA's ensemble."""

    name: str
    dtype: str  # Triton's: BYTES, INT32, FP32, BOOL, UINT64, UINT8
    dims: tuple[int, ...] = (1,)
    ours: bool = False
    doc: str = ""


INPUTS: tuple[Tensor, ...] = (
    Tensor("text_input", "BYTES", doc="The prompt, UTF-8, sent to the model as it is."),
    Tensor("messages", "BYTES", ours=True, doc="A chat as JSON: [{role, content}, …]; the model's template applies."),
    Tensor("input_ids", "INT32", (-1,), ours=True, doc="The prompt, already tokenized."),
    Tensor("tools", "BYTES", ours=True, doc="JSON list of tools for the chat template."),
    Tensor("chat_template_kwargs", "BYTES", ours=True, doc="JSON object of extra variables for the chat template."),
    Tensor("max_tokens", "INT32", doc="Most tokens to generate; default: what the context leaves."),
    Tensor("min_tokens", "INT32", doc="End of sequence cannot come before this many tokens."),
    Tensor("stream", "BOOL", doc="true: deltas as they come; false: one response with the whole text."),
    Tensor("temperature", "FP32", doc="0 is greedy; default greedy unless top_p or top_k is given."),
    Tensor("top_k", "INT32", doc="Sample among the k most likely; 0: off."),
    Tensor("top_p", "FP32", doc="Sample among the smallest set with this probability."),
    Tensor("repetition_penalty", "FP32", doc="Divides the logits of tokens already seen; 1: off."),
    Tensor("presence_penalty", "FP32", doc="Subtracted once from tokens already generated."),
    Tensor("frequency_penalty", "FP32", doc="Subtracted for each time a token was generated."),
    Tensor("seed", "UINT64", doc="Same seed, same request, same engine: same answer when it runs alone."),
    Tensor("stop_words", "BYTES", (-1,), doc="Stop strings, found in the text; never sent to the client."),
    Tensor(
        "reasoning_tags",
        "BYTES",
        (-1,),
        ours=True,
        doc="What opens ('': the prompt has) and closes the reasoning, where no stop string is looked for.",
    ),
    Tensor("bad_words", "BYTES", (-1,), doc="Strings that must not be generated."),
    Tensor("stop_token_ids", "INT32", (-1,), ours=True, doc="Further end-of-sequence tokens; without text."),
    Tensor("end_id", "INT32", doc="Replaces the model's own end-of-sequence token; one that no token has: never end."),
    Tensor("pad_id", "INT32", doc="Accepted for NVIDIA's clients; nothing is padded here."),
    Tensor("ignore_eos", "BOOL", ours=True, doc="Generate to max_tokens whatever comes."),
    Tensor("beam_width", "INT32", doc="1 unless the engine has beam search."),
    Tensor("num_return_sequences", "INT32", doc="Must be 1: send the request again for another answer."),
    Tensor("length_penalty", "FP32", doc="Only beam search has a use for it: must be 1 or 0."),
    Tensor("exclude_input_in_output", "BOOL", doc="The prompt is never repeated: must be true where given."),
    Tensor("logit_bias", "BYTES", ours=True, doc="JSON object: added to the logits of these token ids, -100 to 100."),
    Tensor(
        "skip_special_tokens",
        "BOOL",
        ours=True,
        doc="false: special tokens but the end of sequence appear in the text.",
    ),
    Tensor("return_log_probs", "BOOL", doc="Fill cum_log_probs and output_log_probs."),
    Tensor("logprobs", "INT32", ours=True, doc="Alternatives a token in top_log_probs."),
    Tensor("return_num_input_tokens", "BOOL", doc="Accepted for NVIDIA's clients; the count is always sent."),
    Tensor("return_num_output_tokens", "BOOL", doc="Accepted for NVIDIA's clients; the count is always sent."),
    Tensor("return_context_logits", "BOOL", doc="Must be false: no engine here returns logits."),
    Tensor("return_generation_logits", "BOOL", doc="Must be false: no engine here returns logits."),
    Tensor("return_perf_metrics", "BOOL", doc="Must be false: timings are in /metrics."),
    Tensor("guided_decoding_guide_type", "BYTES", doc="json, json_schema, regex, ebnf_grammar or structural_tag."),
    Tensor("guided_decoding_guide", "BYTES", doc="The schema, expression or grammar."),
    Tensor("lora_name", "BYTES", doc="One of the deployment's adapters, by its name in the config."),
    Tensor(
        "stream_interval_ms", "INT32", ours=True, doc="Least time between deltas; 0: the server adapts to its load."
    ),
    Tensor(
        "timeout_ms", "INT32", ours=True, doc="The answer is of no use after this long: the engine stops; 0: never."
    ),
)

# A response carries only what has news: text and ids always, the rest with the last response or when asked for.
OUTPUTS: tuple[Tensor, ...] = (
    Tensor("text_output", "BYTES", (-1,), doc="The delta when streaming, the whole text when not."),
    Tensor(
        "output_ids",
        "INT32",
        (-1,),
        ours=True,
        doc="The token ids generated since the last response; the end of sequence, which has no text, included.",
    ),
    Tensor("finish_reason", "BYTES", (-1,), ours=True, doc="Why the stream ended; in the last response."),
    Tensor("num_input_tokens", "INT32", doc="Tokens of the prompt; in the last response."),
    Tensor("num_output_tokens", "INT32", doc="Tokens generated; in the last response."),
    Tensor(
        "cum_log_probs", "FP32", (-1,), doc="Sum of the log probabilities, with return_log_probs; in the last response."
    ),
    Tensor("output_log_probs", "FP32", (-1, -1), doc="[1, tokens] of output_ids, with return_log_probs."),
    Tensor(
        "output_tokens", "BYTES", (-1,), ours=True, doc="JSON, the bytes of each of output_ids, with return_log_probs."
    ),
    Tensor(
        "top_log_probs", "BYTES", (-1,), ours=True, doc="JSON, a list of [id, logprob, bytes] a token, with logprobs."
    ),
)

INPUT_BY_NAME = {tensor.name: tensor for tensor in INPUTS}
OUTPUT_BY_NAME = {tensor.name: tensor for tensor in OUTPUTS}

CANARY_REQUEST_ID = "conch-canary"

# Between the stages: one packed message each (contract/wire.py).
ENGINE_REQUEST = Tensor("request", "UINT8", (-1,), ours=True)
ENGINE_DELTA = Tensor("delta", "UINT8", (-1,), ours=True)


def stage_names(deployment: str) -> tuple[str, str, str]:
    """Model names of (preprocess, engine, postprocess); two deployments can share a server."""
    return f"{deployment}_preprocess", f"{deployment}_engine", f"{deployment}_postprocess"
