"""The messages between stages come back as they were sent."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contract.sampling import SamplingParams
from contract.tensors import FinishReason
from contract.wire import Delivery, EngineDelta, EngineRequest, Opening, TopLogprob, pack, unpack_delta, unpack_request

_ids = st.integers(0, 2**31 - 1)
_nanoseconds = st.integers(0, 2**63 - 1)
_real = st.floats(allow_nan=False)
_text = st.text(st.characters(codec="utf-8"), max_size=30)  # UTF-8 has no lone surrogates
_texts = st.lists(_text, max_size=4).map(tuple)

_sampling = st.builds(
    SamplingParams,
    max_tokens=st.none() | _ids,
    min_tokens=_ids,
    temperature=st.none() | _real,
    top_k=_ids,
    top_p=_real,
    min_p=_real,
    repetition_penalty=_real,
    presence_penalty=_real,
    frequency_penalty=_real,
    seed=st.none() | st.integers(0, 2**64 - 1),
    ignore_eos=st.booleans(),
    end_id=st.none() | _ids,
    stop_token_ids=st.lists(_ids, max_size=4).map(tuple),
    bad_words=_texts,
    logit_bias=st.dictionaries(_ids, _real, max_size=4),
    beam_width=_ids,
    return_log_probs=st.booleans(),
    logprobs=_ids,
    prompt_logprobs=st.none() | _ids,
    guided_decoding_guide_type=_text,
    guided_decoding_guide=_text,
)
_delivery = st.builds(
    Delivery,
    stream=st.booleans(),
    stop=_texts,
    reasoning_tags=_texts,
    skip_special_tokens=st.booleans(),
    include_stop=st.booleans(),
    arrival_ns=_nanoseconds,
    canary=st.booleans(),
)
_requests = st.builds(
    EngineRequest,
    input_ids=st.lists(_ids, max_size=40),
    sampling=_sampling,
    delivery=_delivery,
    stream_interval_ms=_ids,
    deadline_ns=_nanoseconds,
)
_openings = st.builds(
    Opening,
    num_input_tokens=_ids,
    scored_ids=st.lists(_ids, max_size=20),
    delivery=_delivery,
    return_log_probs=st.booleans(),
)
_tops = st.lists(st.lists(st.builds(TopLogprob, token_id=_ids, logprob=_real), max_size=3), max_size=5)
_deltas = st.builds(
    EngineDelta,
    key=st.integers(0, 2**64 - 1),
    ids=st.lists(_ids, max_size=20),
    log_probs=st.lists(_real, max_size=20),
    top_log_probs=_tops,
    prompt_log_probs=st.lists(_real, max_size=20),
    prompt_top_log_probs=_tops,
    opening=st.none() | _openings,
    finish=st.sampled_from(["", *FinishReason]),
    error=_text,
)


@given(_requests)
def test_requests_come_back(request: EngineRequest) -> None:
    assert unpack_request(pack(request)) == request


@given(_deltas)
def test_deltas_come_back(delta: EngineDelta) -> None:
    assert unpack_delta(pack(delta)) == delta


@given(_deltas)
def test_a_message_is_one_row_of_bytes(delta: EngineDelta) -> None:
    packed = pack(delta)
    assert packed.dtype == np.dtype(np.uint8)
    assert packed.shape == (1, packed.size)


def test_not_a_number_and_infinities_come_back() -> None:
    sent = EngineDelta(1, log_probs=[math.nan, math.inf, -math.inf])
    nan, *infinities = unpack_delta(pack(sent)).log_probs
    assert math.isnan(nan)
    assert infinities == [math.inf, -math.inf]


def test_a_heartbeat_is_small() -> None:
    assert pack(EngineDelta(2**63)).size < 20
