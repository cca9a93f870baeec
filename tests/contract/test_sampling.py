"""Sampling bounds and features: every field out of its bounds is refused by name, NaN and infinities too."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InvalidRequest, UnsupportedByEngine
from contract.sampling import (
    BOUNDS,
    GUIDE_TYPES,
    SamplingParams,
    check_bounds,
    check_supported,
    features,
    resumed,
    without_answer,
)
from contract.tensors import INPUT_BY_NAME

INTEGERS = {name for name in BOUNDS if INPUT_BY_NAME[name].dtype in ("INT32", "UINT64")}
EVERYTHING = SamplingParams(
    max_tokens=5,
    min_tokens=1,
    temperature=0.5,
    top_k=3,
    top_p=0.9,
    min_p=0.1,
    repetition_penalty=1.1,
    presence_penalty=0.1,
    frequency_penalty=0.1,
    seed=0,
    ignore_eos=True,
    end_id=2,
    stop_token_ids=(1,),
    bad_words=("x",),
    logit_bias={1: 2.0},
    beam_width=2,
    return_log_probs=True,
    logprobs=1,
    prompt_logprobs=1,
    guided_decoding_guide_type="regex",
    guided_decoding_guide="a+",
    lora_name="sea",
    resumed_ids=(5,),
)


def with_field(field: str, value: Any) -> SamplingParams:
    return msgspec.structs.replace(SamplingParams(), **{field: value})


def out_of_bounds(field: str) -> list[float]:
    low, high, inclusive = BOUNDS[field]
    edges = [low - 1 if inclusive else low, high + 1]
    return edges if field in INTEGERS else [*edges, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in BOUNDS for value in out_of_bounds(field)])
def test_a_value_out_of_bounds_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_bounds(with_field(field, value))
    assert refused.value.field == field
    assert f"{field}: must be in" in str(refused.value)
    assert str(value) in str(refused.value)


@pytest.mark.parametrize("field", BOUNDS)
def test_the_bounds_themselves_are_allowed(field: str) -> None:
    low, high, inclusive = BOUNDS[field]
    for value in (high, low if inclusive else low + 0.001):
        params = with_field(field, value)
        check_bounds(msgspec.structs.replace(params, max_tokens=value) if field == "min_tokens" and value else params)


def test_every_sampling_input_is_a_tensor_of_the_contract() -> None:
    assert set(SamplingParams.__struct_fields__) <= set(INPUT_BY_NAME)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        (SamplingParams(max_tokens=3, min_tokens=4), "min_tokens"),
        (SamplingParams(stop_token_ids=(5, -1)), "stop_token_ids"),
        (SamplingParams(logit_bias={1: 100.5}), "logit_bias"),
        (SamplingParams(logit_bias={1: math.nan}), "logit_bias"),
        (SamplingParams(logit_bias={-1: 1.0}), "logit_bias"),
        (SamplingParams(guided_decoding_guide_type="poem", guided_decoding_guide="x"), "guided_decoding_guide_type"),
        (SamplingParams(guided_decoding_guide_type="regex"), "guided_decoding_guide"),
        (SamplingParams(guided_decoding_guide="a+"), "guided_decoding_guide_type"),
    ],
)
def test_contradictions_are_refused_by_name(params: SamplingParams, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_bounds(params)
    assert refused.value.field == field


def test_json_mode_needs_no_guide() -> None:
    check_bounds(SamplingParams(guided_decoding_guide_type="json"))


@pytest.mark.parametrize(
    ("params", "greedy"),
    [
        (SamplingParams(), True),
        (SamplingParams(temperature=0.0, top_p=0.5), True),
        (SamplingParams(temperature=1.0, top_k=1), True),
        (SamplingParams(temperature=1.0), False),
        (SamplingParams(top_p=0.5), False),
        (SamplingParams(top_k=5), False),
    ],
)
def test_greedy_unless_asked_otherwise(params: SamplingParams, greedy: bool) -> None:
    assert params.greedy is greedy


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ({}, True),
        ({"temperature": 0.0, "presence_penalty": 1.0, "seed": 3, "ignore_eos": True}, True),
        ({"prompt_logprobs": None}, False),
        ({"max_tokens": 2}, False),
        ({"temperature": 1.0}, False),
        ({"repetition_penalty": 1.1}, False),
        ({"min_tokens": 1}, False),
        ({"logit_bias": {1: 2.0}}, False),
        ({"guided_decoding_guide_type": "json"}, False),
        ({"lora_name": "sea"}, False),
    ],
    ids=str,
)
def test_whoever_scores_a_prompt_knows_the_token_after_it(beside: dict[str, Any], told: bool) -> None:
    asked = {"max_tokens": 1, "prompt_logprobs": 0, "return_log_probs": True, "logprobs": 2} | beside
    params = SamplingParams(**asked)
    assert params.told_by_the_prompt is told
    assert ({"return_log_probs", "logprobs"} <= {field for field, _ in features(params)}) is not told


def test_without_an_answer_only_the_prompt_counts() -> None:
    assert without_answer(EVERYTHING) == SamplingParams(max_tokens=1, prompt_logprobs=1, lora_name="sea")


def test_defaults_ask_for_no_feature() -> None:
    assert list(features(SamplingParams(max_tokens=7, end_id=2))) == []


def test_every_field_is_a_feature_or_belongs_to_one() -> None:
    asked = {field for field, _ in features(EVERYTHING)}
    assert asked == set(SamplingParams.__struct_fields__) - {"max_tokens", "end_id", "guided_decoding_guide"}


@pytest.mark.parametrize(("field", "feature"), list(features(EVERYTHING)))
def test_a_missing_feature_is_refused_by_name(field: str, feature: str) -> None:
    everything = frozenset(each for _, each in features(EVERYTHING))
    check_supported(EVERYTHING, everything, "able")
    with pytest.raises(UnsupportedByEngine, match="not supported by the lame engine") as refused:
        check_supported(EVERYTHING, everything - {feature}, "lame")
    assert refused.value.field == field


@given(kind=st.sampled_from(GUIDE_TYPES))
def test_guides_are_features_of_their_own(kind: str) -> None:
    params = SamplingParams(guided_decoding_guide_type=kind, guided_decoding_guide="x")
    supported = frozenset({f"guided_decoding_guide_type:{kind}"})
    check_supported(params, supported, "e")
    with pytest.raises(UnsupportedByEngine, match=f"guided_decoding_guide_type: {kind} is not supported"):
        check_supported(params, frozenset({"guided_decoding_guide_type:other"}), "e")


def test_what_is_left_to_ask_for_is_less() -> None:
    asked = SamplingParams(max_tokens=9, min_tokens=4, temperature=0.5, resumed_ids=(1, 2, 3))
    assert resumed(asked) == msgspec.structs.replace(asked, max_tokens=6, min_tokens=1)
    assert resumed(msgspec.structs.replace(asked, resumed_ids=(1,) * 9)).max_tokens == 0
    assert resumed(SamplingParams(max_tokens=9)) == SamplingParams(max_tokens=9)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_tokens": 1}, "has 2 tokens, of at most 1"),
        ({"frequency_penalty": 0.5}, "cannot go on with an answer that has frequency_penalty"),
        ({"bad_words": ("x",)}, "cannot go on with an answer that has bad_words"),
        ({"guided_decoding_guide_type": "json"}, "cannot go on with an answer that has guided_decoding_guide_type"),
    ],
    ids=str,
)
def test_what_cannot_go_on_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"resumed_ids: {said}"):
        resumed(msgspec.structs.replace(SamplingParams(max_tokens=9, resumed_ids=(1, 2)), **given))
