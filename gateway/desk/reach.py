"""The desk as a worker reaches it: what admits its requests and keeps its books is another process."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import msgspec

from contract.errors import RequestError, from_wire
from contract.spec import Deployment
from gateway.admission import Load, Ticket
from gateway.backend import own_admission
from gateway.desk.wire import Admit, Ask, Drain, End, Ended, FromDesk, Granted, Left, Line, Refused, Told, Turned, What
from gateway.errors import ApiError
from gateway.errors import Refused as RefusedHere
from gateway.journey import Journey

_PATIENCE_S: dict[What, float] = {"alive": 3.0, "page": 10.0, "verdicts": 20.0}
_SILENT = ApiError(503, "the gateway does not admit requests now. Try again", "server_error", "service_unavailable")


class Desk:
    """A worker's connection to it, and the worker's :class:`gateway.books.Books`.

    Args:
        turn: is called with each server that came or went.
        drain: is called when the desk says so, likewise ``end``, and ``lost`` when the desk is gone.
    """

    def __init__(
        self,
        turn: Callable[[Turned], None],
        drain: Callable[[], None],
        end: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._turn = turn
        self._drain = drain
        self._end = end
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[str]] = {}
        self.retry_after_s: dict[str, float] = {}  # by deployment, as last told
        self.line: Line[FromDesk] = Line(FromDesk, self._hear, lost)

    def number(self) -> int:
        """One that no message had before."""
        return next(self._numbers)

    async def answer_to(self, message: Admit | Ask) -> str:
        """What the desk answers.

        Raises:
            RequestError: it refuses.
        """
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[message.number] = answer
        self.line.say(message)
        try:
            return await answer
        finally:
            del self._asked[message.number]

    async def beat(self) -> None:
        """Let the desk know that this worker lives."""
        text = await self.answer_to(Ask(self.number(), "alive"))
        self.retry_after_s = msgspec.json.decode(text, type=dict[str, float])

    def record(self, journey: Journey, now: float) -> None:
        """Of Books."""
        self.line.say(Ended(journey, now))

    async def page(self) -> bytes:
        """Of Books."""
        return (await self._ask("page")).encode()

    async def verdicts(self) -> dict[str, str]:
        """Of Books."""
        return msgspec.json.decode(await self._ask("verdicts"), type=dict[str, str])

    async def alive(self) -> None:
        """Of Books."""
        await self._ask("alive")

    async def _ask(self, what: What) -> str:
        try:
            async with asyncio.timeout(_PATIENCE_S[what]):
                return await self.answer_to(Ask(self.number(), what))
        except TimeoutError:
            raise RefusedHere(_SILENT) from None

    def _hear(self, message: FromDesk) -> None:
        match message:
            case Granted():
                self._settle(message.number, "")
            case Told():
                self._settle(message.number, message.text)
            case Refused():
                self.retry_after_s[message.model] = message.retry_after_s
                self._settle(message.number, from_wire(message.line))
            case Turned():
                self._turn(message)
            case Drain():
                self._drain()
            case End():
                self._end()
            case _:
                assert_never(message)

    def _settle(self, number: int, answer: str | RequestError) -> None:
        """Hand an answer to who waits for it, if he still does."""
        asked = self._asked.get(number)
        if asked is None or asked.done():
            return
        if isinstance(answer, RequestError):
            asked.set_exception(answer)
        else:
            asked.set_result(answer)


@dataclass
class AskedAdmission:
    """A deployment's :class:`gateway.backend.Admits`, kept by the desk."""

    desk: Desk
    model: str
    most_answers: int

    async def admit(self, key: str, load: Load, deadline: float | None = None) -> Ticket:
        """As :meth:`gateway.admission.Admission.admit`."""
        number = self.desk.number()
        try:
            await self.desk.answer_to(Admit(number, self.model, key, load.requests, load.tokens, deadline))
        except RequestError:
            raise
        except BaseException:
            self.desk.line.say(Left(number))
            raise
        return Ticket(key, load, number=number)

    def release(self, ticket: Ticket) -> None:
        """Likewise."""
        self.desk.line.say(Left(ticket.number))

    def close(self) -> None:
        """The desk closes its own."""

    def follow(self, spec: Deployment) -> None:
        """Likewise; known here is only what one request may ask for."""
        self.most_answers = own_admission(spec).most_answers

    def retry_after_s(self) -> float:
        """As the desk last told: with its last refusal, or a second ago."""
        return self.desk.retry_after_s.get(self.model, 1.0)


def asked_admission(desk: Desk) -> Callable[[Deployment], AskedAdmission]:
    """What makes a deployment's."""
    return lambda spec: AskedAdmission(desk, spec.name, own_admission(spec).most_answers)
