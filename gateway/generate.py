"""Asks → their deltas: admitted together, run side by side, cancelled together."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from hashlib import blake2s
from secrets import token_hex

from clients.request import Delta
from contract.errors import ContextTooLong, DeadlineExceeded, Unavailable
from gateway.ask import Ask
from gateway.backend import Backend
from gateway.in_turn import InTurn
from gateway.journey import Journey
from gateway.load import Load
from gateway.prefix import Affinity
from gateway.replicas import Replicas
from gateway.standing import ComeBack
from gateway.tracing.trace import Trace, followed

_GRACE_S = 5.0  # the engine keeps the deadline; gRPC's own is for a server that does not answer at all
_AHEAD = 8  # deltas of several answers that may wait for their reader

Numbered = tuple[int, Delta]  # which answer, and what it gained


async def generate(
    backend: Backend,
    asks: Sequence[Ask],
    journey: Journey,
    timeout_s: float | None = None,
    trace: Trace | None = None,
) -> AsyncGenerator[Numbered, None]:
    """Run the asks of one request; leaving this generator cancels what still runs.

    Args:
        timeout_s: the client's own deadline, from when its request came.

    Raises:
        RequestError: refused, failed or late; nothing runs on.
    """
    deadline = journey.began + timeout_s if timeout_s is not None else None
    client = _client_of(journey.key)
    session = f"{journey.key}\0{journey.session}" if journey.session else ""
    asks = [replace(ask, client=client, affinity=Affinity(session)) for ask in asks]
    if trace:
        asks = [_traced(backend, ask, trace) for ask in asks]
    load = sum((_load(backend, ask) for ask in asks), Load())
    try:
        ticket = await backend.admission.admit(journey.key, load, deadline)
    except ComeBack as error:
        journey.standing = error.standing
        raise
    journey.standing = ticket.standing
    journey.admitted = time.monotonic()
    silent = any(ask.inputs["stream"] for ask in asks)
    if not silent:
        backend.admission.first_token(ticket)
    said: dict[int, int] = {}  # characters of the answers that have begun and not ended
    try:
        deltas = _ended(backend, asks[0], deadline) if len(asks) == 1 else _several(backend, asks, deadline)
        async with aclosing(deltas):
            async for number, delta in deltas:
                backend.outage.answered()
                if silent:
                    silent = False
                    backend.admission.first_token(ticket)
                if not journey.first_token and delta.text and asks[number].inputs["stream"]:
                    journey.first_token = time.monotonic()
                said[number] = said.get(number, 0) + len(delta.text)
                if delta.finish_reason:
                    del said[number]
                    _count(backend, asks[number], delta, journey)
                yield number, delta
    finally:
        for number, size in said.items():
            _count_cut(backend, asks[number], size, journey)
        backend.admission.release(ticket, journey.prompt_tokens + journey.completion_tokens)


def _ended(backend: Backend, ask: Ask, deadline: float | None, number: int = 0) -> AsyncGenerator[Numbered, None]:
    """The deltas of one ask, ended by its max_tokens, or by the context where the ask allows that."""
    deltas = (_fitted if ask.context_may_end else _one)(backend, ask, deadline, number)
    return followed(deltas, ask.trace) if ask.trace else deltas


async def _fitted(backend: Backend, ask: Ask, deadline: float | None, number: int) -> AsyncGenerator[Numbered, None]:
    """The deltas of one ask; where its max_tokens exceeds what the context leaves, it is what the context leaves."""
    try:
        async with aclosing(_one(backend, ask, deadline, number)) as deltas:
            async for numbered in deltas:
                yield numbered
    except ContextTooLong as error:  # refused before the first delta, by the stage that counts the prompt
        if error.field != "max_tokens":
            raise
    else:
        return
    unbounded = {name: value for name, value in ask.inputs.items() if name != "max_tokens"}
    async with aclosing(_one(backend, replace(ask, inputs=unbounded), deadline, number)) as deltas:
        async for numbered in deltas:
            yield numbered


async def _one(backend: Backend, ask: Ask, deadline: float | None, number: int = 0) -> AsyncGenerator[Numbered, None]:
    """The deltas of one ask, to the one with the finish reason."""
    inputs, timeout_s = ask.inputs, None
    if deadline is not None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed before the request could start", field="timeout_ms")
        inputs, timeout_s = {**inputs, "timeout_ms": max(1, round(left_s * 1000))}, left_s + _GRACE_S
    finished = False
    client = backend.client
    begin = partial(client.deltas, affinity=ask.affinity) if isinstance(client, Replicas | InTurn) else client.deltas
    deltas = begin(inputs, timeout_s=timeout_s, request_id=ask.client + token_hex(16), outputs=ask.outputs)
    async with aclosing(deltas):
        async for delta in deltas:
            finished = bool(delta.finish_reason)
            yield number, delta
    if not finished:
        raise Unavailable("the server broke off in the middle of the answer", fix="Try again")


async def _several(backend: Backend, asks: Sequence[Ask], deadline: float | None) -> AsyncGenerator[Numbered, None]:
    """The deltas of several asks as they come; a slow reader holds all of them back."""
    queue: asyncio.Queue[Numbered | BaseException | None] = asyncio.Queue(maxsize=_AHEAD)

    async def pump(number: int) -> None:
        try:
            async with aclosing(_ended(backend, asks[number], deadline, number)) as deltas:
                async for numbered in deltas:
                    await queue.put(numbered)
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    pumps = [asyncio.create_task(pump(number)) for number in range(len(asks))]
    try:
        left = len(pumps)
        while left:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def _traced(backend: Backend, ask: Ask, trace: Trace) -> Ask:
    """An ask that is followed, and whose answer tells its timings."""
    inputs = {**ask.inputs, "return_perf_metrics": True}
    return replace(ask, inputs=inputs, trace=trace.ask(backend.name, ask.inputs))


def _client_of(key: str) -> str:
    """What the ids of one API key's requests begin with."""
    return f"{blake2s(key.encode(), digest_size=4).hexdigest()}." if key else ""


def _load(backend: Backend, ask: Ask) -> Load:
    wanted = ask.inputs.get("max_tokens", backend.spec.limits.max_seq_len)
    return Load(1, min(_prompt_tokens(backend, ask) + wanted, backend.spec.limits.max_seq_len))


def _prompt_tokens(backend: Backend, ask: Ask) -> int:
    """Of a prompt that is not counted yet."""
    prompt = backend.sizes.estimate(ask.prompt_bytes) if ask.prompt_tokens is None else ask.prompt_tokens
    return min(prompt, backend.spec.limits.max_input_len)


def _count(backend: Backend, ask: Ask, delta: Delta, journey: Journey) -> None:
    if ask.prompt_tokens is None and delta.num_input_tokens:
        backend.sizes.learn(ask.prompt_bytes, delta.num_input_tokens)
    journey.by_another |= delta.by_another
    journey.prompt_tokens += delta.num_input_tokens
    journey.expected_tokens += round(ask.affinity.known * delta.num_input_tokens)
    if ask.affinity.server:
        journey.servers.append(ask.affinity.server)
    if delta.num_cached_tokens is not None:
        journey.cached_tokens = (journey.cached_tokens or 0) + delta.num_cached_tokens
    journey.completion_tokens += delta.num_output_tokens


def _count_cut(backend: Backend, ask: Ask, size: int, journey: Journey) -> None:
    """An answer that was left or broke off has no counts: what there was of it is estimated."""
    journey.prompt_tokens += _prompt_tokens(backend, ask)
    journey.completion_tokens += backend.sizes.estimate(size)
