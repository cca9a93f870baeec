"""The ensemble's tensors: names, dtypes and dims, as NVIDIA's inflight_batcher_llm ensemble has them.

Source: TensorRT-LLM 1.2.1, triton_backend/all_models/inflight_batcher_llm/ensemble/config.pbtxt.
Dims leave out the batch dimension, which must be 1: a prompt is [1, 1] on the wire.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_BATCH_SIZE = 2**20  # for Triton: what comes as a batch reaches preprocess, whose refusal tells the way out
ENSEMBLE_ALIAS = "ensemble"  # NVIDIA's clients ask for this model name


class FinishReason(StrEnum):
    """Why a stream ended."""

    STOP = "stop"  # end of sequence, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    CANCELLED = "cancelled"
    ERROR = "error"


class Decision(StrEnum):
    """What becomes of an input."""

    HONOURED = "honoured"
    ACCEPTED = "accepted"  # whatever it says: it asks for nothing here
    NEUTRAL = "accepted where it asks for nothing, else refused"


@dataclass(frozen=True)
class Tensor:
    """One input or output. ``ours``: not in NVIDIA's ensemble."""

    name: str
    dtype: str  # Triton's: BYTES, INT32, FP32, BOOL, INT64, UINT64, UINT8
    dims: tuple[int, ...] = (1,)
    ours: bool = False
    doc: str = ""
    decision: Decision = Decision.HONOURED
    neutral: tuple[Any, ...] = ()  # the values that a NEUTRAL input may have
    alias_of: str = ""  # an older name of that input


def _none(name: str, dtype: str, nothing: Any, doc: str) -> Tensor:
    """An input of NVIDIA's that can only say "not used"."""
    return Tensor(name, dtype, decision=Decision.NEUTRAL, neutral=(nothing,), doc=doc)


def _off(name: str, doc: str) -> Tensor:
    return _none(name, "BOOL", False, doc)


INPUTS: tuple[Tensor, ...] = (
    Tensor("text_input", "BYTES", doc="The prompt, UTF-8, sent to the model as it is."),
    Tensor("messages", "BYTES", ours=True, doc="A chat as JSON: [{role, content}, …]; the model's template applies."),
    Tensor("input_ids", "INT32", (-1,), ours=True, doc="The prompt, already tokenized."),
    Tensor("tools", "BYTES", ours=True, doc="JSON list of tools for the chat template."),
    Tensor("chat_template_kwargs", "BYTES", ours=True, doc="JSON object of extra variables for the chat template."),
    Tensor("max_tokens", "INT32", doc="Most tokens to generate; 0: none; default: what the context leaves."),
    Tensor("min_tokens", "INT32", doc="End of sequence cannot come before this many tokens."),
    Tensor("stream", "BOOL", doc="true: deltas as they come; false: one response with the whole text."),
    Tensor("temperature", "FP32", doc="0 is greedy; default greedy unless top_p or top_k is given."),
    Tensor("top_k", "INT32", doc="Sample among the k most likely; 0 or less: not given."),
    Tensor(
        "top_p",
        "FP32",
        doc="Sample among the smallest set with this probability; 0 or less: not given, and without top_k greedy.",
    ),
    Tensor("min_p", "FP32", ours=True, doc="Only tokens at least this likely beside the likeliest one; 0: off."),
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
    Tensor(
        "end_id",
        "INT32",
        doc="Replaces the model's own end-of-sequence token; -1: not given; one that no token has: never end.",
    ),
    Tensor("pad_id", "INT32", decision=Decision.ACCEPTED, doc="Nothing is padded here."),
    Tensor("ignore_eos", "BOOL", ours=True, doc="Generate to max_tokens whatever comes."),
    Tensor("beam_width", "INT32", doc="1, or 0 for not given, unless the engine has beam search."),
    Tensor(
        "num_return_sequences",
        "INT32",
        decision=Decision.NEUTRAL,
        neutral=(0, 1),
        doc="Send the request again for another answer.",
    ),
    Tensor("length_penalty", "FP32", decision=Decision.ACCEPTED, doc="Only beam search has a use for it."),
    Tensor(
        "exclude_input_in_output",
        "BOOL",
        doc="false: a whole answer begins with the prompt, as NVIDIA's does; a streamed one never does.",
    ),
    Tensor("logit_bias", "BYTES", ours=True, doc="JSON object: added to the logits of these token ids, -100 to 100."),
    Tensor(
        "skip_special_tokens",
        "BOOL",
        ours=True,
        doc="false: special tokens but the end of sequence appear in the text.",
    ),
    Tensor(
        "include_stop_str_in_output", "BOOL", ours=True, doc="true: the text ends with what stopped it, if it has text."
    ),
    Tensor("return_log_probs", "BOOL", doc="Fill cum_log_probs and output_log_probs."),
    Tensor("logprobs", "INT32", ours=True, doc="Alternatives a token in top_log_probs."),
    Tensor(
        "prompt_logprobs",
        "INT32",
        ours=True,
        doc="Score the prompt: fill prompt_log_probs and prompt_tokens; alternatives a token in prompt_top_log_probs.",
    ),
    Tensor("return_num_input_tokens", "BOOL", decision=Decision.ACCEPTED, doc="The count is always sent."),
    Tensor("return_num_output_tokens", "BOOL", decision=Decision.ACCEPTED, doc="The count is always sent."),
    _off("return_context_logits", "No engine here returns logits; return_log_probs is there."),
    _off("return_generation_logits", "No engine here returns logits; return_log_probs is there."),
    Tensor("return_perf_metrics", "BOOL", doc="Fill the outputs that end in _time_ns."),
    _off("return_kv_cache_reuse_stats", "The cache's use is in /metrics."),
    Tensor("guided_decoding_guide_type", "BYTES", doc="json, json_schema, regex, ebnf_grammar or structural_tag."),
    Tensor("guided_decoding_guide", "BYTES", doc="The schema, expression or grammar."),
    Tensor("lora_name", "BYTES", ours=True, doc="One of the deployment's adapters, by its name in the config."),
    Tensor(
        "stream_interval_ms", "INT32", ours=True, doc="Least time between deltas; 0: the server adapts to its load."
    ),
    Tensor(
        "timeout_ms", "INT32", ours=True, doc="The answer is of no use after this long: the engine stops; 0: never."
    ),
    Tensor(
        "resumed_ids",
        "INT32",
        (-1,),
        ours=True,
        doc="Token ids that the answer has already, from a server that is gone: it goes on behind them.",
    ),
    Tensor(
        "resumed_chars",
        "INT32",
        ours=True,
        doc="Characters of the text of resumed_ids that the client has; what else they say comes first.",
    ),
    Tensor("random_seed", "UINT64", alias_of="seed", doc="NVIDIA's name for it up to 0.18."),
    Tensor("min_length", "INT32", alias_of="min_tokens", doc="NVIDIA's name for it up to 0.18."),
    Tensor("embedding_bias_words", "BYTES", (-1,), doc="Words whose tokens' logits are biased."),
    Tensor("embedding_bias_weights", "FP32", (-1,), doc="What is added to them, one weight a word."),
    _none("decoder_text_input", "BYTES", "", "No encoder-decoder model is served here."),
    _none("num_draft_tokens", "INT32", 0, "No draft model is served here."),
    _off("use_draft_logits", "No draft model is served here."),
    _none("prompt_vocab_size", "INT32", 0, "Prompt tuning is not served here."),
    _none("prompt_table_extra_id", "UINT64", 0, "Prompt tuning is not served here."),
    _none("lora_task_id", "UINT64", 0, "Adapters are the deployment's: name one in lora_name."),
)

_CLOCK = "Nanoseconds on the server's monotonic clock, with return_perf_metrics, in the last response"
_MOMENTS = (
    Tensor("received_time_ns", "INT64", ours=True, doc=f"{_CLOCK}: when the request came, before it was read."),
    Tensor("arrival_time_ns", "INT64", doc=f"{_CLOCK}: when the engine had it."),
    Tensor("first_scheduled_time_ns", "INT64", doc=f"{_CLOCK}: when the engine took it up, where it tells."),
    Tensor("first_token_time_ns", "INT64", doc=f"{_CLOCK}: when the first token was there."),
    Tensor("last_token_time_ns", "INT64", doc=f"{_CLOCK}: when the last was."),
)
MOMENTS = tuple(tensor.name for tensor in _MOMENTS)  # in their order

# A response carries only what has news: text and ids always, the rest with the last response or when asked for.
OUTPUTS: tuple[Tensor, ...] = (
    Tensor("text_output", "BYTES", (-1,), doc="[1] on the wire: the delta when streaming, the whole text when not."),
    Tensor(
        "output_ids",
        "INT32",
        (-1,),
        ours=True,
        doc="The token ids generated since the last response; the end of sequence, which has no text, included.",
    ),
    Tensor("finish_reason", "BYTES", (-1,), ours=True, doc="[1]: why the stream ended; in the last response."),
    Tensor("matched_stop", "BYTES", (-1,), ours=True, doc="[1]: the stop string that ended the answer, where one did."),
    Tensor("num_input_tokens", "INT32", doc="Tokens of the prompt; in the first response and the last."),
    Tensor("num_output_tokens", "INT32", doc="Tokens generated; in the last response."),
    Tensor(
        "num_cached_tokens",
        "INT32",
        ours=True,
        doc="Tokens of the prompt that the prefix cache had; in the last response, where the engine tells.",
    ),
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
    Tensor(
        "prompt_log_probs",
        "FP32",
        (-1, -1),
        ours=True,
        doc="[1, tokens - 1], with prompt_logprobs: of the prompt's tokens but the first; in the first response.",
    ),
    Tensor(
        "prompt_tokens",
        "BYTES",
        (-1,),
        ours=True,
        doc="JSON, the bytes of each token of the prompt, with prompt_logprobs; in the first response.",
    ),
    Tensor(
        "prompt_top_log_probs",
        "BYTES",
        (-1,),
        ours=True,
        doc="As top_log_probs, of the tokens of prompt_log_probs; in the first response.",
    ),
    *_MOMENTS,
)

INPUT_BY_NAME = {tensor.name: tensor for tensor in INPUTS}
OUTPUT_BY_NAME = {tensor.name: tensor for tensor in OUTPUTS}

# Between the stages: one packed message each (contract/wire.py).
ENGINE_REQUEST = Tensor("request", "UINT8", (-1,), ours=True)
ENGINE_DELTA = Tensor("delta", "UINT8", (-1,), ours=True)


def stage_names(deployment: str) -> tuple[str, str, str]:
    """Model names of (preprocess, engine, postprocess); two deployments can share a server."""
    return f"{deployment}_preprocess", f"{deployment}_engine", f"{deployment}_postprocess"
