"""The desk as a worker reaches it: what admits its requests and keeps its books is another process."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import msgspec

from contract.errors import RequestError, from_wire
from contract.spec import Deployment
from gateway.backend import own_admission
from gateway.desk.wire import (
    Admit,
    Ask,
    Drain,
    End,
    Ended,
    FromDesk,
    Granted,
    Left,
    Line,
    Refused,
    Spoke,
    Told,
    Turned,
    What,
)
from gateway.errors import ApiError
from gateway.errors import Refused as RefusedHere
from gateway.held import Ticket
from gateway.journey import Journey
from gateway.load import Load
from gateway.standing import ComeBack, Standing

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
        self._asked: dict[int, asyncio.Future[Granted | Told]] = {}
        self.retry_after_s: dict[str, float] = {}  # by deployment, as last told
        self.line: Line[FromDesk] = Line(FromDesk, self._hear, lost)

    def number(self) -> int:
        """One that no message had before."""
        return next(self._numbers)

    async def admitted(self, request: Admit) -> Standing | None:
        """Wait until a request may start.

        Raises:
            RequestError: it may not.
        """
        granted = await self._answer_to(request)
        assert isinstance(granted, Granted)
        return granted.standing

    async def _told(self, question: Ask) -> str:
        told = await self._answer_to(question)
        assert isinstance(told, Told)
        return told.text

    async def _answer_to(self, message: Admit | Ask) -> Granted | Told:
        answer: asyncio.Future[Granted | Told] = asyncio.get_running_loop().create_future()
        self._asked[message.number] = answer
        self.line.say(message)
        try:
            return await answer
        finally:
            del self._asked[message.number]

    async def beat(self) -> None:
        """Let the desk know that this worker lives."""
        text = await self._told(Ask(self.number(), "alive"))
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
                return await self._told(Ask(self.number(), what))
        except TimeoutError:
            raise RefusedHere(_SILENT) from None

    def _hear(self, message: FromDesk) -> None:
        match message:
            case Granted() | Told() | Refused():
                self._settle(message)
            case Turned():
                self._turn(message)
            case Drain():
                self._drain()
            case End():
                self._end()
            case _:
                assert_never(message)

    def _settle(self, answer: Granted | Told | Refused) -> None:
        """Hand an answer to who waits for it, if he still does."""
        asked = self._asked.get(answer.number)
        if asked is None or asked.done():
            return
        if isinstance(answer, Refused):
            asked.set_exception(_error(answer))
        else:
            asked.set_result(answer)


@dataclass
class AskedAdmission:
    """A deployment's :class:`gateway.backend.Admits`, kept by the desk."""

    desk: Desk
    model: str
    most_answers: int
    has_classes: bool  # of keys: the desk wants to know when the first token is there

    async def admit(self, key: str, load: Load, deadline: float | None = None) -> Ticket:
        """As :meth:`gateway.admission.Admission.admit`."""
        number = self.desk.number()
        try:
            asked = Admit(number, self.model, key, load.requests, load.tokens, deadline)
            standing = await self.desk.admitted(asked)
        except RequestError:
            raise
        except BaseException:
            self.desk.line.say(Left(number, 0))
            raise
        return Ticket(key, load, standing=standing, number=number)

    def first_token(self, ticket: Ticket) -> None:
        """Likewise."""
        if self.has_classes:
            self.desk.line.say(Spoke(ticket.number))

    def release(self, ticket: Ticket, used: int | None) -> None:
        """Likewise."""
        self.desk.line.say(Left(ticket.number, used))

    def close(self) -> None:
        """The desk closes its own."""

    def follow(self, spec: Deployment) -> None:
        """Likewise; known here is only what one request may ask for."""
        self.most_answers = own_admission(spec).most_answers

    def retry_after_s(self) -> float:
        """As the desk told a second ago."""
        return self.desk.retry_after_s.get(self.model, 1.0)


def _error(refused: Refused) -> RequestError:
    """As the desk raised it."""
    error = from_wire(refused.line)
    if refused.retry_after_s is None:
        return error
    return ComeBack(error.message, refused.retry_after_s, refused.standing, spent=refused.spent)


def asked_admission(desk: Desk) -> Callable[[Deployment], AskedAdmission]:
    """What makes a deployment's."""

    def of(spec: Deployment) -> AskedAdmission:
        own = own_admission(spec)
        return AskedAdmission(desk, spec.name, own.most_answers, own.quotas.has_classes)

    return of
