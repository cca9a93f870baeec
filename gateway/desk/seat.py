"""One worker as the desk sees it: what its requests wait for, and what they hold; all of it comes back when it dies."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import assert_never

import msgspec

from contract.errors import InternalError, RequestError
from gateway.backend import Admits
from gateway.desk.wire import Admit, Ask, Ended, FromWorker, Granted, Idle, Left, Line, Refused, Spoke, Told
from gateway.held import Ticket
from gateway.load import Load
from gateway.service import Service
from gateway.standing import ComeBack

log = logging.getLogger("gateway")


class Seat:
    """One worker's.

    Args:
        service: the desk's own: its admissions and its books are everybody's.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: dict[int, asyncio.Task[None]] = {}
        self._held: dict[int, tuple[Admits, Ticket]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.begun = False  # it has said something
        self.heard = False  # likewise, since it was last looked at
        self.idle = asyncio.Event()  # it has nothing under way any more, or is gone
        self.gone = asyncio.Event()
        self.line: Line[FromWorker] = Line(FromWorker, self._hear, self._gone)

    def _hear(self, message: FromWorker) -> None:
        self.begun = self.heard = True
        match message:
            case Admit():
                self._waiting[message.number] = asyncio.create_task(self._admit(message))
            case Spoke():
                if held := self._held.get(message.number):
                    admission, ticket = held
                    admission.first_token(ticket)
            case Left():
                self._give_back(message.number, message.used)
            case Ended():
                self._service.books.record(message.journey, message.now)
            case Ask():
                self._start(self._answer(message))
            case Idle():
                self.idle.set()
            case _:
                assert_never(message)

    async def _admit(self, asked: Admit) -> None:
        admission = self._service.backends[asked.model].admission
        try:
            ticket = await admission.admit(asked.key, Load(asked.requests, asked.tokens), asked.deadline)
        except Exception as error:
            if not isinstance(error, RequestError):
                log.exception("a request was not admitted")
                error = InternalError("the gateway failed on this request")
            self.line.say(_refused(asked.number, error))
        else:
            self._held[asked.number] = admission, ticket
            self.line.say(Granted(asked.number, ticket.standing))
        finally:
            self._waiting.pop(asked.number, None)

    def _give_back(self, number: int, used: int | None) -> None:
        """What a request holds, or its place in the queue; a refused one has neither."""
        if number in self._held:
            admission, ticket = self._held.pop(number)
            admission.release(ticket, used)
        elif number in self._waiting:
            self._waiting.pop(number).cancel()

    async def _answer(self, asked: Ask) -> None:
        text = ""
        match asked.what:
            case "alive":
                backends = self._service.backends.items()
                found = {name: backend.admission.retry_after_s() for name, backend in backends}
                text = msgspec.json.encode(found).decode()
            case "page":
                text = (await self._service.books.page()).decode()
            case "verdicts":
                text = msgspec.json.encode(await self._service.books.verdicts()).decode()
        self.line.say(Told(asked.number, text))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def _gone(self) -> None:
        self.gone.set()
        self.idle.set()
        for number in (*self._waiting, *self._held):
            self._give_back(number, None)


def _refused(number: int, error: RequestError) -> Refused:
    if isinstance(error, ComeBack):
        return Refused(number, error.to_wire(), error.retry_after_s, error.standing, error.spent)
    return Refused(number, error.to_wire(), None, None, spent=False)
