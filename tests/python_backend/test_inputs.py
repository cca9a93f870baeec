"""Every input over Triton's doors has a decision, and what is decided is what happens.

An input that is added without one fails here: it must be among what HONOURED shows to change the request, be
accepted whatever it says, or be refused by name beyond its neutral values.
"""

from typing import Any

import numpy as np
import pytest

from contract.errors import InvalidRequest
from contract.inputs_page import PAGE, page
from contract.nvidia import ALL_INPUT_BY_NAME, ALL_INPUTS, NOT_SERVED, TOKENS
from contract.sampling import SamplingParams
from contract.sections import Limits
from contract.tensors import INPUT_BY_NAME, Decision, Tensor
from python_backend.preprocess.inputs import Prompt, read_prompt
from python_backend.preprocess.tokenize import PromptTokenizer

KINDS: dict[str, type] = {
    "BYTES": object,
    "INT32": np.int32,
    "FP32": np.float32,
    "BOOL": np.bool_,
    "UINT64": np.uint64,
}
# Of TensorRT-LLM's ensemble, tensorrt_llm_bls and tensorrt_llm: 1.2.1, and what 0.7 to 0.18 had besides.
NVIDIA_TEXT = """
text_input decoder_text_input image_input image_bytes_input image_url_input video_bytes_input max_tokens
num_return_sequences bad_words stop_words exclude_input_in_output end_id pad_id top_k top_p temperature length_penalty
repetition_penalty min_tokens min_length presence_penalty frequency_penalty seed random_seed return_log_probs
return_context_logits return_generation_logits return_perf_metrics return_kv_cache_reuse_stats return_num_input_tokens
return_num_output_tokens beam_width stream prompt_embedding_table prompt_table_extra_id prompt_vocab_size
embedding_bias_words embedding_bias_weights num_draft_tokens use_draft_logits lora_task_id lora_weights lora_config
guided_decoding_guide_type guided_decoding_guide
"""
# What inflight_batcher_llm_client, benchmark_core_model and end_to_end_test send to tensorrt_llm.
NVIDIA_TOKENS = """
input_ids input_lengths request_output_len beam_width temperature streaming end_id pad_id runtime_top_k runtime_top_p
return_num_input_tokens return_num_output_tokens num_return_sequences lora_task_id repetition_penalty presence_penalty
frequency_penalty return_log_probs return_context_logits return_generation_logits exclude_input_in_output
return_perf_metrics decoder_input_ids stop len_penalty min_length random_seed stop_words_list bad_words_list
embedding_bias min_tokens seed
"""

IDS = {"input_ids": [1, 2, 3]}
CHAT = {"messages": '[{"role": "user", "content": "x"}]'}
GUIDE = {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "a+"}
# input -> (a value, what else must be there, what of the request it changes)
HONOURED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "text_input": ("foam", {}, "text"),
    "messages": (CHAT["messages"], {}, "messages"),
    "input_ids": ([1, 2], {}, "input_ids"),
    "tools": ('[{"type": "function"}]', CHAT, "tools"),
    "chat_template_kwargs": ('{"a": 1}', CHAT, "template_kwargs"),
    "max_tokens": (7, {}, "max_tokens"),
    "min_tokens": (2, {}, "min_tokens"),
    "min_length": (2, {}, "min_tokens"),
    "stream": (True, {}, "stream"),
    "temperature": (0.5, {}, "temperature"),
    "top_k": (3, {}, "top_k"),
    "top_p": (0.5, {}, "top_p"),
    "min_p": (0.1, {}, "min_p"),
    "repetition_penalty": (1.5, {}, "repetition_penalty"),
    "presence_penalty": (0.5, {}, "presence_penalty"),
    "frequency_penalty": (0.5, {}, "frequency_penalty"),
    "seed": (7, {}, "seed"),
    "random_seed": (7, {}, "seed"),
    "stop_words": (["."], {}, "stop"),
    "bad_words": (["x"], {}, "bad_words"),
    "stop_token_ids": ([5], {}, "stop_token_ids"),
    "end_id": (5, {}, "end_id"),
    "ignore_eos": (True, {}, "ignore_eos"),
    "beam_width": (2, {}, "beam_width"),
    "exclude_input_in_output": (False, {}, "with_prompt"),
    "return_perf_metrics": (True, {}, "timed"),
    "logit_bias": ('{"1": 2}', {}, "logit_bias"),
    "skip_special_tokens": (False, {}, "skip_special_tokens"),
    "include_stop_str_in_output": (True, {}, "include_stop"),
    "reasoning_tags": (["<a>", "</a>"], {}, "reasoning_tags"),
    "return_log_probs": (True, {}, "return_log_probs"),
    "logprobs": (3, {}, "logprobs"),
    "prompt_logprobs": (0, {}, "prompt_logprobs"),
    "guided_decoding_guide_type": ("json", {}, "guided_decoding_guide_type"),
    "guided_decoding_guide": ("b", GUIDE, "guided_decoding_guide"),
    "lora_name": ("sea", {}, "lora_name"),
    "stream_interval_ms": (5, {}, "stream_interval_ms"),
    "timeout_ms": (5, {}, "timeout_ms"),
    "embedding_bias_words": (["y"], {"embedding_bias_words": ["x"], "embedding_bias_weights": [2.0]}, "biased_words"),
    "resumed_ids": ([5, 6], {}, "resumed_ids"),
    "resumed_chars": (2, {"resumed_ids": [5, 6]}, "resumed_chars"),
    "embedding_bias_weights": ([3.0], {"embedding_bias_words": ["x"], "embedding_bias_weights": [2.0]}, "biased_words"),
    "input_lengths": (2, IDS, "input_ids"),
    "stop_words_list": ([5, 6, 7, 2, 3, -1], {}, "stop_ids"),
    "bad_words_list": ([5, 6, 7, 2, 3, -1], {}, "bad_ids"),
    "embedding_bias": ([0.0, 2.0], {}, "logit_bias"),
}
ANOTHER = {"BYTES": "x", "INT32": 9, "FP32": 9.0, "BOOL": True, "UINT64": 9}


def read(values: dict[str, Any]) -> Prompt:
    """The prompt of these inputs, as Triton hands them over; a prompt is put in where there is none."""
    if not {"text_input", "messages", "input_ids"} & set(values):
        values = {"text_input": "tide", **values}
    return read_prompt({name: array(ALL_INPUT_BY_NAME[name], value) for name, value in values.items()})


def array(tensor: Tensor, value: Any) -> Any:
    flat = value if isinstance(value, list) else [value]
    encoded = [each.encode() if isinstance(each, str) else each for each in flat]
    shape = (1, 2, -1) if len(tensor.dims) == 2 else (1, -1)
    return np.array(encoded, dtype=KINDS[tensor.dtype]).reshape(shape)


def of(prompt: Prompt, name: str) -> Any:
    return getattr(prompt.sampling if name in SamplingParams.__struct_fields__ else prompt, name)


def decided(decision: Decision) -> list[Tensor]:
    return [tensor for tensor in ALL_INPUTS if tensor.decision is decision]


@pytest.mark.parametrize("tensor", decided(Decision.HONOURED), ids=lambda tensor: tensor.name)
def test_what_is_honoured_changes_the_request(tensor: Tensor) -> None:
    assert tensor.name in HONOURED, f"{tensor.name} has no decision: say what it changes, or that it asks for nothing"
    value, beside, changes = HONOURED[tensor.name]
    assert of(read(beside | {tensor.name: value}), changes) != of(read(beside), changes)


@pytest.mark.parametrize("tensor", decided(Decision.ACCEPTED), ids=lambda tensor: tensor.name)
def test_what_asks_for_nothing_is_accepted(tensor: Tensor) -> None:
    assert read({tensor.name: ANOTHER[tensor.dtype]}) == read({})


@pytest.mark.parametrize("tensor", decided(Decision.NEUTRAL), ids=lambda tensor: tensor.name)
def test_what_cannot_be_honoured_is_accepted_when_neutral_and_else_refused_by_name(tensor: Tensor) -> None:
    for neutral in tensor.neutral:
        assert read({tensor.name: neutral}) == read({})
    with pytest.raises(InvalidRequest) as refused:
        read({tensor.name: ANOTHER[tensor.dtype]})
    assert refused.value.field == tensor.name
    assert refused.value.fix


def test_every_input_of_nvidias_is_decided() -> None:
    assert set(NVIDIA_TEXT.split()) <= set(INPUT_BY_NAME) | set(NOT_SERVED)
    assert set(NVIDIA_TOKENS.split()) <= set(TOKENS.inputs)
    assert not set(INPUT_BY_NAME) & set(NOT_SERVED)


@pytest.mark.parametrize(
    "values",
    [
        {"top_k": 0},
        {"top_k": -1},
        {"end_id": -1},
        {"beam_width": 0},
        {"stop_words": [""], "bad_words": [""]},
        {"stop_words_list": [0, -1], "bad_words_list": [0, -1]},
        {"stop_words_list": [], "embedding_bias": []},
    ],
    ids=str,
)
def test_nvidias_not_given_is_not_given(values: dict[str, Any]) -> None:
    assert read(values) == read({})


@pytest.mark.parametrize("values", [{"top_p": 0.0}, {"top_p": -1.0, "top_k": 0}, {"top_p": 0.0, "top_k": 1}], ids=str)
def test_no_mass_to_sample_from_is_greedy(values: dict[str, Any]) -> None:
    assert read(values | {"temperature": 1.0}).sampling.greedy


def test_top_p_of_zero_beside_top_k_is_not_given() -> None:
    assert read({"top_p": 0.0, "top_k": 50}) == read({"top_k": 50})


@pytest.mark.parametrize(("rows", "field"), [([[b"a"], [b"b"]], "text_input"), ([[b"a"]], "max_tokens")])
def test_a_batch_is_refused_with_the_way_out(rows: list[list[bytes]], field: str) -> None:
    tensors = {"max_tokens": np.array([[2], [2]], dtype=np.int32), "text_input": np.array(rows, dtype=object)}
    with pytest.raises(InvalidRequest, match="Send each in a request of its own") as refused:
        read_prompt(tensors)
    assert refused.value.field == field


def test_an_older_name_must_agree_with_the_newer() -> None:
    assert read({"seed": 7, "random_seed": 7}).sampling.seed == 7
    with pytest.raises(InvalidRequest, match="random_seed: must agree with seed"):
        read({"seed": 7, "random_seed": 8})


def test_the_token_level_model_is_nvidias() -> None:
    """It repeats the prompt unless told otherwise, and knows no end but the one it is told."""
    given = {**IDS, "input_lengths": 3}
    assert read(given).with_prompt and read(given).sampling.ignore_eos
    assert not read(given | {"stream": True}).with_prompt
    assert not read(given | {"exclude_input_in_output": True}).with_prompt
    assert not read(given | {"end_id": 5}).sampling.ignore_eos
    assert read(IDS).with_prompt is read(IDS).sampling.ignore_eos is False


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({**IDS, "input_lengths": 0}, "input_lengths"),
        ({**IDS, "input_lengths": 4}, "input_lengths"),
        ({"stop_words_list": [5, 6, 2, 1]}, "stop_words_list"),
        ({"bad_words_list": [5, 6, 3, -1]}, "bad_words_list"),
        ({"embedding_bias_words": ["a", "b"], "embedding_bias_weights": [1.0]}, "embedding_bias_weights"),
        ({"end_id": -2}, "end_id"),
        ({"resumed_ids": [1], "resumed_chars": -1}, "resumed_chars"),
        ({"resumed_chars": 1}, "resumed_ids"),
    ],
    ids=str,
)
def test_lists_that_say_nothing_sound_are_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(values)
    assert refused.value.field == field


@pytest.fixture(scope="module")
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer.synthetic(Limits())


def test_words_become_ids_and_ids_words(tokenizer: PromptTokenizer) -> None:
    prompt = read(
        {
            "embedding_bias_words": ["aab"],
            "embedding_bias_weights": [1.5],
            "stop_words_list": [97, 98, 99, 1, 3, -1],
            "bad_words_list": [98, 99, 2, -1],
            "stop_words": ["z"],
        }
    )
    sampling, stop = tokenizer.with_words(prompt, prompt.sampling)
    assert sampling.logit_bias == {97: 3.0, 98: 1.5}
    assert sampling.stop_token_ids == (97,)
    assert stop == ("z", "bc")
    assert sampling.bad_words == ("bc",)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"embedding_bias_words": ["aa"], "embedding_bias_weights": [60.0]}, "embedding_bias_weights"),
        ({"stop_words_list": [10**6, 1]}, "stop_words_list"),
        ({"bad_words_list": [10**6, 1]}, "bad_words_list"),
    ],
    ids=str,
)
def test_words_that_cannot_be_are_refused(tokenizer: PromptTokenizer, values: dict[str, Any], field: str) -> None:
    prompt = read(values)
    with pytest.raises(InvalidRequest) as refused:
        tokenizer.with_words(prompt, prompt.sampling)
    assert refused.value.field == field


def test_min_tokens_asks_for_nothing_where_no_token_ends_the_answer(tokenizer: PromptTokenizer) -> None:
    never = read({"min_length": 5, "end_id": 2**30}).sampling
    assert tokenizer.with_a_real_end(never).min_tokens == 0
    assert tokenizer.with_a_real_end(read({"min_length": 5}).sampling).min_tokens == 5


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/inputs.md is out of date: run make inputs-page"
