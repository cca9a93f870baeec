"""A sampled request as it goes: what its spans will say, noted on the way and made into spans at its end.

Nothing of OpenTelemetry is here: a gateway without tracing never loads it, and a request that is not sampled has no
trace at all.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from clients.request import Delta, Inputs
from contract.errors import Cancelled, InternalError, RequestError


@dataclass
class Spoken:
    """One answer; times on time.monotonic()."""

    model: str  # the deployment that gives it
    inputs: Inputs  # what it was asked
    text: list[str] | None  # what it says, where that is wanted
    first: float = 0.0  # its first delta with text came
    ended: float = 0.0
    last: Delta | None = None
    error: str = ""  # as OpenAI's API would name it

    def take(self, delta: Delta) -> None:
        """Note a delta."""
        if delta.text:
            self.first = self.first or time.monotonic()
            if self.text is not None:
                self.text.append(delta.text)
        if delta.finish_reason:
            self.last = delta


@dataclass
class Trace:
    """One request."""

    root: Any  # OpenTelemetry's span of it
    id: str
    content: bool  # texts are told too
    clock_ns: int  # from time.monotonic_ns() to time.time_ns(), when it came
    asked: float = 0.0  # it was understood; on time.monotonic()
    error: str = ""  # what ended its stream in the middle
    answers: list[Spoken] = field(default_factory=list)

    def ask(self, model: str, inputs: Inputs) -> Spoken:
        """An answer that is about to be asked for."""
        self.asked = self.asked or time.monotonic()
        answer = Spoken(model, inputs, [] if self.content else None)
        self.answers.append(answer)
        return answer


def trace_of(request: Request) -> Trace | None:
    """The trace that the outermost middleware began, if it did."""
    trace: Trace | None = request.scope.get("trace")
    return trace


async def followed(
    deltas: AsyncGenerator[tuple[int, Delta], None], answer: Spoken
) -> AsyncGenerator[tuple[int, Delta], None]:
    """The same deltas, noted; and how they ended, whoever ended them."""
    answer.error = Cancelled.codes.code  # unless it ends otherwise
    try:
        async with aclosing(deltas):
            async for number, delta in deltas:
                answer.take(delta)
                yield number, delta
        answer.error = ""
    except RequestError as error:
        answer.error = error.codes.code
        raise
    except Exception:
        answer.error = InternalError.codes.code
        raise
    finally:
        answer.ended = time.monotonic()
