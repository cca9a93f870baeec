"""The gateway's state, and the one way in which every endpoint answers."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from contract.errors import RequestError, Unavailable
from contract.tensors import ENSEMBLE_ALIAS
from gateway.arrival import Arrivals
from gateway.ask import Ask
from gateway.backend import Backend
from gateway.body import check_origin, read_body, session_of, timeout_of
from gateway.books import Books
from gateway.errors import INVALID, UNKNOWN, ApiError, Refused, of_request, refuse
from gateway.generate import Numbered, generate
from gateway.interrupt import Drain, peer_of
from gateway.journey import OVER_QUOTA, Journey, journey_of
from gateway.keys import Keys
from gateway.schema.common import Common
from gateway.schema.messages import CountBody, MessagesBody
from gateway.schema.tokenize import DetokenizeBody, TokenizeBody
from gateway.sse import begun
from gateway.standing import ComeBack
from gateway.sticky import sticky_of
from gateway.tracing.trace import trace_of
from gateway.versions import Versions

if TYPE_CHECKING:
    from gateway.tracing.tracer import Tracer

B = TypeVar("B", bound=Common | CountBody | TokenizeBody | DetokenizeBody)

log = logging.getLogger("gateway")

_BODIES = 16  # of the largest size, that may be on their way at once
OF_THE_PROMPT = ("messages", "tools", "chat_template_kwargs")


class Work(Protocol):
    """A request that is understood."""

    @property
    def body(self) -> Common | MessagesBody:
        """What was asked."""

    @property
    def asks(self) -> Sequence[Ask]:
        """What the ensemble is to be asked."""

    async def whole(self, deltas: AsyncIterator[Numbered], journey: Journey) -> bytes:
        """The unstreamed response's body."""

    def chunks(self, deltas: AsyncGenerator[Numbered, None], journey: Journey) -> AsyncGenerator[bytes, None]:
        """The streamed response's writes."""

    def error(self, error: ApiError) -> bytes:
        """The event that ends a stream in the middle."""


@dataclass
class Service:
    """Everything that requests share."""

    backends: dict[str, Backend]
    versions: Versions
    keys: Keys
    books: Books
    cors_origins: tuple[str, ...] = ()
    processes: int = 1  # that answer for this gateway, this one among them
    tracer: "Tracer | None" = None  # where tracing is on
    drain: Drain = field(default_factory=Drain)
    arrivals: Arrivals = field(init=False)

    def __post_init__(self) -> None:
        self.arrivals = Arrivals(max(1, _BODIES // self.processes) * self.most_body_bytes)

    @property
    def most_body_bytes(self) -> int:
        """The largest body that any deployment accepts."""
        return max(backend.spec.gateway.max_body_mib for backend in self.backends.values()) * 2**20

    async def asked(self, request: Request, schema: type[B]) -> tuple[B, Backend]:
        """A request's body, as :func:`gateway.body.read_body` has it, and the version of its deployment to be asked.

        Raises:
            Refused: there is none of this name, or as read_body.
        """
        check_origin(request, self.cors_origins)
        body = await read_body(request, schema, self.arrivals, self.most_body_bytes)
        journey = journey_of(request)
        journey.session = session_of(request, body)
        backend = self.backend(body.model, journey)
        return body, self.versions.pick(backend, lambda: sticky_of(journey.session, body), journey)

    def backend(self, model: str | None, journey: Journey) -> Backend:
        """The deployment that a request names; none need be named where there is one.

        Raises:
            Refused: there is none of this name.
        """
        found = self.backends.get(model or "")
        if (
            found is None and model in (None, ENSEMBLE_ALIAS) and len(self.backends) == 1
        ):  # as Triton's own doors have it
            (found,) = self.backends.values()
        if found is None and model is None:
            raise refuse(f"is needed; there is {', '.join(self.backends)}", param="model")
        if found is None:
            message = f"The model {model!r:.80} does not exist; there is {', '.join(self.backends)}"
            raise Refused(ApiError(404, message, INVALID, "model_not_found", "model"))
        journey.model = found.name if model is None else model
        return found

    async def answer(self, request: Request, backend: Backend, work: Work) -> Response:
        """Run a request's asks and answer it, streamed or not.

        Raises:
            Refused: it was refused, or failed, before the response began.
        """
        journey, trace = journey_of(request), trace_of(request)
        deltas = generate(backend, work.asks, journey, timeout_of(request), trace)

        def told(error: Exception) -> ApiError:
            return self.told(error, backend, work.asks[0])

        def event(error: Exception) -> bytes:
            failure = told(error)
            journey.finish_reason = failure.reason
            if trace:
                trace.error = journey.finish_reason
            return work.error(failure)

        try:
            if work.body.stream:
                return await begun(work.chunks(deltas, journey), request, self.drain, event)
            async with self.drain.interruptible(peer_of(request.scope)), aclosing(deltas):
                return Response(await work.whole(deltas, journey), media_type="application/json")
        except RequestError as error:
            raise Refused(told(error)) from None

    async def count(self, request: Request, backend: Backend, ask: Ask) -> int:
        """Tokens of an ask's prompt; nothing is generated.

        Raises:
            Refused: no answer could be made to it.
        """
        prompt = {name: value for name, value in ask.inputs.items() if name in OF_THE_PROMPT}
        try:
            return await backend.client.count(prompt, timeout_s=timeout_of(request))
        except RequestError as error:
            raise Refused(self.told(error, backend, ask)) from None

    def told(self, error: Exception, backend: Backend, ask: Ask) -> ApiError:
        """A failure in the words of the request that it befell."""
        if isinstance(error, Unavailable) and not self.drain.draining:
            backend.outage.failed()
            return of_request(error, ask.names, backend.outage.retry_after_s())
        if isinstance(error, ComeBack):
            noted = OVER_QUOTA if error.spent else ""
            return replace(of_request(error, ask.names, error.retry_after_s), noted=noted)
        if isinstance(error, RequestError):
            return of_request(error, ask.names, backend.admission.retry_after_s())
        if isinstance(error, Refused):
            return error.error
        log.error("an answer failed", exc_info=error)
        return UNKNOWN
