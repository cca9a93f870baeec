"""Between an engine and Triton: gathers what each stream gained and decides when it is worth a response.

A response costs about the same whether it carries one token or ten. So deltas of one stream are kept apart by an
interval that grows with the number of streams, as far as all may cost (budget.py), and with how far behind those are
that send them (pressure.py); the first token and the last are never held. Deltas leave with engine steps, not between
them: two tokens every two steps, never one early and one late.

A stream that has nothing to say still says so a few times a second: only a response lets Triton tell
postprocess that the client has left.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contract.errors import DeadlineExceeded
from contract.sections import Streaming
from contract.tensors import FinishReason
from contract.wire import EngineDelta, Opening
from python_backend.budget import Budget
from python_backend.pressure import Pressure
from python_backend.protocol import Output

HEARTBEAT_S = 0.4
SLACK_S = 0.002  # a delta due this soon goes out with the step at hand
LEAST_S = 0.004  # apart, where tokens come faster: nobody sees it, and each costs the engine's own cores something
_LEAST_UNDER_PRESSURE_S = 0.01

Send = Callable[[EngineDelta], None]


def held_s(interval_s: float, step_s: float, max_itl_s: float) -> float:
    """How old a stream's last delta is when the step at hand takes the next one along.

    That is the step nearest to the interval; or an earlier one, where the next would come after ``max_itl_s`` and the
    interval, which the budget of responses asks for, is no longer than that.
    """
    nearest_s = interval_s - step_s / 2
    return min(nearest_s, max_itl_s - step_s) if interval_s <= max_itl_s else nearest_s


@dataclass(slots=True)
class _Stream:
    send: Send
    pending: EngineDelta
    interval_s: float | None  # None: adapt to the load
    deadline_ns: int
    sent_at: float
    mute: bool = False  # of what is generated nothing is wanted
    spoken: bool = False  # its first token is out


class Outbox:
    """The streams of one engine. ``push``, once a step, sends what is due; a thread sends what falls due between."""

    def __init__(self, policy: Streaming, abort: Callable[[int], None], budget: Budget) -> None:
        self._max_interval_s = policy.max_interval_ms / 1000
        self._max_itl_s = policy.max_itl_ms / 1000
        self.budget = budget
        self.sent = 0  # deltas that are worth a response
        self._abort = abort
        self.pressure = Pressure()
        self._step_s = 0.0  # how far apart the engine's steps lately are
        self._stepped_at = 0.0
        self._streams: dict[int, _Stream] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._wakes_at = 0.0  # when the thread next looks by itself
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, key: int) -> bool:
        return key in self._streams

    def open(
        self, key: int, send: Send, opening: Opening, interval_ms: int, deadline_ns: int, *, mute: bool = False
    ) -> None:
        """A new stream. ``send`` is called with every delta; the one with ``finish`` is its last.

        Args:
            mute: the prompt's log probabilities are wanted, and no token: the one that the engine generates is dropped.
        """
        interval_s: float | None = max(interval_ms / 1000, self._adapted()) if interval_ms else None
        if not opening.delivery.stream and not opening.delivery.stop:
            interval_s = HEARTBEAT_S  # one response in the end: only a departed client makes haste useful
        first = EngineDelta(key, opening=opening)
        with self._changed:
            self._streams[key] = _Stream(send, first, interval_s, deadline_ns, time.monotonic(), mute)

    def drop(self, key: int) -> None:
        """Forget a stream that the engine did not take; nothing more is sent on it."""
        with self._changed:
            self._streams.pop(key, None)

    def push(self, outputs: Sequence[Output]) -> None:
        """Take in one engine step."""
        with self._changed:
            self._count_step(time.monotonic())
            for output in outputs:
                stream = self._streams.get(output.key)
                if stream is None:  # past its deadline: its last delta is out
                    continue
                pending = stream.pending
                if not stream.mute:
                    pending.ids.extend(output.ids)
                    pending.log_probs.extend(output.log_probs)
                    pending.top_log_probs.extend(output.top_log_probs)
                pending.prompt_log_probs.extend(output.prompt_log_probs)
                pending.prompt_top_log_probs.extend(output.prompt_top_log_probs)
                if output.cached_tokens is not None:
                    pending.cached_tokens = output.cached_tokens
                if output.scheduled_ns:
                    pending.scheduled_ns = output.scheduled_ns
                if output.finish:
                    ended = stream.mute and output.finish == FinishReason.STOP
                    pending.finish = FinishReason.LENGTH if ended else output.finish
                    pending.error = output.error
            if time.monotonic() + self._send_due(at_a_step=True) < self._wakes_at:
                self._changed.notify()

    def close(self) -> None:
        """Stop sending."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        with self._changed:
            while not self._closing:
                wait_s = self._send_due()
                self._wakes_at = time.monotonic() + wait_s
                self._changed.wait(wait_s)

    def _send_due(self, *, at_a_step: bool = False) -> float:
        """Send what is due; how long until something else is, in seconds. The lock, held, keeps streams in order."""
        now = time.monotonic()
        adapted, stretch = self._adapted(), self.pressure.stretch
        missed_s = adapted + self._step_s  # between steps only what a step should have taken along
        hold_s = held_s(adapted, self._step_s, self._max_itl_s) if at_a_step else missed_s
        wait_s = HEARTBEAT_S
        for key, stream in list(self._streams.items()):
            if stream.deadline_ns:
                self._expire(key, stream)
            pending = stream.pending
            grace_s = 0.0
            if not pending.ids:
                left_s = stream.sent_at + HEARTBEAT_S - now
            elif not stream.spoken:
                left_s = 0.0
            elif stream.interval_s is None:
                left_s = stream.sent_at + hold_s - SLACK_S - now
                grace_s = missed_s - hold_s
            else:
                left_s = stream.sent_at + stream.interval_s * stretch - SLACK_S - now
            if pending.finish or left_s <= 0:
                stream.spoken = stream.spoken or bool(pending.ids)
                self.sent += bool(pending.ids or pending.finish)
                stream.sent_at = now
                stream.pending = EngineDelta(key)
                if pending.finish:
                    del self._streams[key]
                stream.send(pending)
            else:
                wait_s = min(wait_s, left_s + grace_s)
        return wait_s

    def _adapted(self) -> float:
        """Seconds between two deltas of one stream, at this load."""
        least_s = max(LEAST_S, len(self._streams) / self.budget.responses_per_s)
        interval_s = min(self._max_interval_s, least_s)
        stretch = self.pressure.stretch
        return interval_s if stretch == 1 else max(interval_s, _LEAST_UNDER_PRESSURE_S) * stretch

    def _count_step(self, now: float) -> None:
        since_s, self._stepped_at = now - self._stepped_at, now
        if since_s < self._max_interval_s:  # else the engine was idle, or busy with a prompt
            self._step_s += (since_s - self._step_s) / 8

    def _expire(self, key: int, stream: _Stream) -> None:
        """End a stream whose deadline has passed, before prefill or after."""
        if time.time_ns() > stream.deadline_ns and not stream.pending.finish:
            stream.pending.finish = FinishReason.ERROR
            stream.pending.error = DeadlineExceeded(
                "the request's deadline passed before its answer was complete", field="timeout_ms"
            ).to_wire()
            self._abort(key)
