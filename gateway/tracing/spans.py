"""What a request lived through → its spans: each begins where the one before it ends, so that they add up.

The attributes' names are those of OpenTelemetry's conventions for HTTP (1.44) and generative AI (0.1 and later).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from clients.request import Inputs, Timings
from gateway.journey import NO_RESPONSE, Journey
from gateway.tracing.content import messages_of, said
from gateway.tracing.trace import Spoken, Trace

Attributes = Mapping[str, Any]

PROVIDER = "conch"
CLIENT_LEFT = "client_left"
_MOST_INTEGER = 2**63 - 1  # that an attribute can be

_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}


@dataclass(frozen=True)
class Span:
    """One, of the past; nanoseconds since the epoch."""

    name: str
    begun_ns: int
    ended_ns: int
    attributes: Attributes = field(default_factory=dict)
    error: str = ""
    asks: bool = False  # it waits for another process
    parts: tuple["Span", ...] = ()


def whole(trace: Trace, journey: Journey, now: float, seen: Attributes) -> Span:
    """The span of a request that has ended.

    Args:
        now: when, on time.monotonic().
        seen: attributes that only its head and its answer's tell.
    """

    def at(moment: float) -> int:
        return round(moment * 1e9) + trace.clock_ns

    attributes = dict(seen)
    if journey.route != "other":
        attributes["http.route"] = journey.route
    if journey.status != NO_RESPONSE:
        attributes["http.response.status_code"] = journey.status
    own = {"key": journey.key, "release": journey.release, "by_another": journey.by_another}
    attributes |= {f"conch.{name}": value for name, value in own.items() if value}
    error = _error(trace, journey)
    return Span("", at(journey.began), at(now), attributes, error, parts=tuple(_parts(trace, journey, at, now)))


def _error(trace: Trace, journey: Journey) -> str:
    """What went wrong that is no fault of the request; a refusal is told by its status alone."""
    if journey.status == NO_RESPONSE:
        return CLIENT_LEFT
    if journey.status >= 500:
        return journey.finish_reason or str(journey.status)
    if trace.error:
        return trace.error
    left = journey.status < 400 and any(answer.error for answer in trace.answers)
    return CLIENT_LEFT if left else ""


def _parts(trace: Trace, journey: Journey, at: Callable[[float], int], now: float) -> Iterator[Span]:
    if not trace.asked:  # refused before, or nothing was to be generated
        return
    yield Span("receive", at(journey.began), at(trace.asked))
    if not journey.admitted:
        yield Span("admit", at(trace.asked), at(now), error=journey.finish_reason or CLIENT_LEFT)
        return
    yield Span("admit", at(trace.asked), at(journey.admitted))
    ended = journey.admitted
    for answer in trace.answers:
        ended = max(ended, answer.ended)
        yield _answer(answer, journey, at)
    yield Span("finish", at(ended), at(now))


def _answer(answer: Spoken, journey: Journey, at: Callable[[float], int]) -> Span:
    operation = "text_completion" if journey.route == "/v1/completions" else "chat"
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": journey.model,
        "gen_ai.response.model": answer.model,
        **dict(_asked(answer.inputs)),
    }
    if answer.inputs["stream"]:
        attributes["gen_ai.request.stream"] = True
        if answer.first:
            attributes["gen_ai.response.time_to_first_chunk"] = answer.first - journey.admitted
    if answer.text is not None:
        attributes["gen_ai.input.messages"] = messages_of(answer.inputs)
        if stops := answer.inputs.get("stop_words"):
            attributes["gen_ai.request.stop_sequences"] = list(stops)
    span = Span(
        f"{operation} {journey.model}",
        at(journey.admitted),
        at(max(answer.ended, journey.admitted)),
        attributes,
        answer.error,
        asks=True,
    )
    last = answer.last
    if last is None:
        return span
    attributes["gen_ai.response.finish_reasons"] = [last.finish_reason]
    attributes["gen_ai.usage.input_tokens"] = last.num_input_tokens
    attributes["gen_ai.usage.output_tokens"] = last.num_output_tokens
    if last.num_cached_tokens is not None:
        attributes["gen_ai.usage.cache_read.input_tokens"] = last.num_cached_tokens
    if answer.text is not None:
        attributes["gen_ai.output.messages"] = said("".join(answer.text), last.finish_reason)
    if last.timings is None:
        return span
    return replace(span, parts=tuple(phases(last.timings, span.begun_ns, span.ended_ns, at(0.0))))


def _asked(inputs: Inputs) -> Iterator[tuple[str, Any]]:
    for tensor, attribute in _ASKED.items():
        if tensor in inputs and inputs[tensor] <= _MOST_INTEGER:
            yield attribute, inputs[tensor]
    if inputs.get("guided_decoding_guide_type") in ("json", "json_schema"):
        yield "gen_ai.output.type", "json"


def phases(timings: Timings, begun_ns: int, ended_ns: int, clock_ns: int) -> Iterator[Span]:
    """The server's part of an answer, and the ways there and back.

    A server on this machine has this machine's monotonic clock. Where its moments do not lie within the call it is
    another machine's, and they are moved so that the first is the call's own beginning: the way back has both then.

    Args:
        clock_ns: from the monotonic clock to the epoch.
    """
    moments = (
        ("send", timings.received_time_ns),
        ("preprocess", timings.arrival_time_ns),
        ("queue", timings.first_scheduled_time_ns),
        ("prefill", timings.first_token_time_ns),
        ("decode", timings.last_token_time_ns),
    )
    known = [(name, moment + clock_ns) for name, moment in moments if moment]
    ours = begun_ns <= known[0][1] and known[-1][1] <= ended_ns
    moved_ns = 0 if ours else begun_ns - known[0][1]
    begin = begun_ns
    for name, moment in known:
        end = min(max(begin, moment + moved_ns), ended_ns)
        yield Span(name, begin, end)
        begin = end
    yield Span("deliver", begin, ended_ns)
