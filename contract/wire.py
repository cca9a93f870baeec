"""The two messages that travel between stages, as msgpack in one UINT8 tensor each.

One small tensor a hop instead of twenty: in Triton the cost of a response is per tensor, and UINT8
(unlike BYTES) crosses the Python stub safely under every numpy.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from contract.sampling import SamplingParams

Bytes = npt.NDArray[np.uint8]

# A parameter of a request to the first stage: only its tokens are wanted, with the model's special ones or without.
TOKENIZE = "conch_tokenize"


class Tokenized(msgspec.Struct, frozen=True):
    """What a prompt is to its tokenizer."""

    text: str  # of the ids, special tokens included
    tokens: list[str]  # the ids as the vocabulary has them


class Delivery(msgspec.Struct, frozen=True, omit_defaults=True):
    """preprocess → postprocess, by way of the engine: how a request's tokens become its client's text."""

    stream: bool = False
    stop: tuple[str, ...] = ()  # stop strings, found in text
    reasoning_tags: tuple[str, ...] = ()  # around what they are not looked for in
    skip_special_tokens: bool = True
    include_stop: bool = False  # the text ends with the stop string, or the request's own stop token
    resumed_chars: int = 0  # of the text of the sampling's resumed_ids: the client has them
    arrival_ns: int = 0  # time.time_ns() when preprocess first saw the request
    canary: bool = False  # the supervisor's own probe: admitted over the limits, kept out of the metrics
    received_ns: int = 0  # time.monotonic_ns() likewise, where the request asks for its timings; else 0


class EngineRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """preprocess → engine: one tokenized request."""

    input_ids: list[int]
    sampling: SamplingParams
    delivery: Delivery = Delivery()
    stream_interval_ms: int = 0  # the least time between two deltas; 0: the server adapts
    deadline_ns: int = 0  # time.time_ns() after which the answer is of no use; 0: none
    with_prompt: bool = False  # the whole answer begins with the prompt
    key: int = 0  # what the stream shall be known by; 0: the engine's stage chooses
    whose: int = 0  # a number that the requests of one client share; 0: of nobody in particular
    tokenized: Tokenized | None = None  # instead of an answer: no engine takes this request


class Opening(msgspec.Struct, frozen=True, omit_defaults=True):
    """What postprocess must know of a stream before its first token."""

    num_input_tokens: int
    delivery: Delivery = Delivery()
    return_log_probs: bool = False
    ends: tuple[int, ...] = ()  # end_id and stop_token_ids of the request: they have no text where they end it
    prompt_ids: list[int] = []  # what the whole answer begins with
    scored_ids: list[int] = []  # the prompt, where it is scored
    submitted_ns: int = 0  # time.monotonic_ns() when the engine had it
    resumed_ids: tuple[int, ...] = ()  # what the answer has already


class TopLogprob(msgspec.Struct, frozen=True, array_like=True):
    """One alternative at one position."""

    token_id: int
    logprob: float


class EngineDelta(msgspec.Struct, omit_defaults=True):
    """engine → postprocess: what one stream gained since its last delta.

    A delta with neither ids nor ``finish`` is a heartbeat: it lets postprocess notice a client that
    left while its request waits for prefill.
    """

    key: int  # unique for every request of every engine process
    ids: list[int] = []
    log_probs: list[float] = []
    top_log_probs: list[list[TopLogprob]] = []
    prompt_log_probs: list[float] = []  # of the prompt's tokens but the first; before the first ids, or with them
    prompt_top_log_probs: list[list[TopLogprob]] = []
    opening: Opening | None = None  # on the first delta of a stream
    finish: str = ""  # a FinishReason on the last delta
    cached_tokens: int | None = None  # of the prompt; told once, or not at all
    scheduled_ns: int = 0  # time.monotonic_ns() when the engine took it up; told once, or not at all
    error: str = ""  # RequestError.to_wire() when finish is "error"
    sent_ns: int = 0  # time.monotonic_ns(), which all processes of a machine share


_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(EngineRequest)
_deltas = msgspec.msgpack.Decoder(EngineDelta)


def pack(message: EngineRequest | EngineDelta) -> Bytes:
    """A message as uint8 [1, n]: the leading 1 is Triton's batch dimension."""
    return np.frombuffer(_encoder.encode(message), dtype=np.uint8).reshape(1, -1)


def unpack_request(packed: Bytes) -> EngineRequest:
    """The inverse of :func:`pack`."""
    return _requests.decode(packed.tobytes())


def unpack_delta(packed: Bytes) -> EngineDelta:
    """The inverse of :func:`pack`."""
    return _deltas.decode(packed.tobytes())
