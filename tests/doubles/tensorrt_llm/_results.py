"""Results as 1.2.1 gives them: one object that changes under its reader, cumulative ids, and the traps.

- Its async queue exists only where a loop was running when it was made.
- ``result(timeout=…)`` ignores the timeout.
- A stop string ends the result and not the request: the engine runs on.
- Stop ids are taken back with the last response unless ``include_stop_str_in_output``.
"""

import asyncio
import dataclasses
import queue
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from contract.engines.trtllm.api import recorded
from contract.errors import from_wire
from contract.tensors import FinishReason
from python_backend.protocol import Output


class RequestError(RuntimeError):
    """An error of one request."""


@dataclass
class Logprob:
    """One token's."""

    logprob: float
    rank: int | None = None


def _completion_fields() -> list[Any]:
    fields = recorded()["results"]["CompletionOutput"]
    made: list[Any] = []
    for name, described in fields.items():
        value = described["default"]
        if value == "<required>":
            made.append((name, int))
        elif isinstance(value, list):
            made.append((name, list, field(default_factory=list)))
        else:
            made.append((name, Any, field(default=value)))
    return [*made, ("_taken", int, field(default=0)), ("_said", int, field(default=0))]


CompletionOutput: Any = dataclasses.make_dataclass(
    "CompletionOutput",
    _completion_fields(),
    namespace={
        "length": property(lambda self: len(self.token_ids)),
        "token_ids_diff": property(lambda self: self.token_ids[self._taken :]),
        "logprobs_diff": property(lambda self: self.logprobs[self._taken :]),
        "text_diff": property(lambda self: self.text[self._said :]),
    },
)


class RequestOutput:
    """What ``generate_async`` returns."""

    def __init__(
        self,
        key: int,
        prompt: list[int],
        params: Any,
        *,
        streaming: bool,
        keeps_the_end: bool,
        cancel: Callable[[int], None],
        decode: Callable[[list[int]], str] | None,
    ) -> None:
        self.request_id = key
        self.prompt = None
        self.prompt_token_ids = prompt
        self.outputs = [CompletionOutput(index=0)]
        self.context_logits = self.mm_embedding_handle = self.disaggregated_params = None
        self.cached_tokens = self.decoding_iter = 0
        self.avg_decoded_tokens_per_iter = None
        self.metrics_dict: dict[str, Any] = {}
        self._params = params
        self._streaming = streaming
        self._keeps_the_end = keeps_the_end
        self._cancel = cancel
        self._decode = decode
        self._done = self._aborted = False
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._responses: queue.SimpleQueue[Output] = queue.SimpleQueue()
        self._aqueue: asyncio.Queue[Output] = asyncio.Queue()
        self._held: list[Output] = []

    @property
    def finished(self) -> bool:
        """After the last response, or a stop string."""
        return self._done

    def abort(self) -> None:
        """Cancel; a last response with finish_reason 'cancelled' follows."""
        self._aborted = True
        self._cancel(self.request_id)

    def aborted(self) -> bool:
        """Whether abort() was called."""
        return self._aborted

    def result(self, timeout: float | None = None) -> "RequestOutput":
        """Wait for the end, whatever the timeout says."""
        while not self._done:
            self._take(self._responses.get())
        return self

    async def aresult(self) -> "RequestOutput":
        """The same, awaited."""
        async for _ in self:
            pass
        return self

    def __await__(self) -> Generator[Any, None, "RequestOutput"]:
        return self.aresult().__await__()

    def __iter__(self) -> Iterator["RequestOutput"]:
        return self

    def __next__(self) -> "RequestOutput":
        if self._done:
            raise StopIteration
        self._take(self._responses.get())
        return self

    def __aiter__(self) -> AsyncIterator["RequestOutput"]:
        return self

    async def __anext__(self) -> "RequestOutput":
        if self._done:
            raise StopAsyncIteration
        assert self._loop is not None, (
            "The asyncio event loop was not present during initialization, so async operations are not available."
        )
        self._take(await self._aqueue.get())
        return self

    def respond(self, output: Output) -> None:
        """From the engine's thread: one step of this request."""
        if not self._streaming and not output.finish:
            self._held.append(output)
            return
        if self._held:
            held, self._held = [*self._held, output], []
            output = Output(
                output.key,
                [token for each in held for token in each.ids],
                [value for each in held for value in each.log_probs],
                finish=output.finish,
                error=output.error,
            )
        self._responses.put(output)
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._aqueue.put_nowait, output)

    def _take(self, output: Output) -> None:
        if output.finish == FinishReason.ERROR:
            self._done = True
            raise RequestError(str(from_wire(output.error)))
        part = self.outputs[0]
        part._taken, part._said = len(part.token_ids), len(part.text)
        part.token_ids = part.token_ids + output.ids
        part.logprobs += [
            {token: Logprob(value, 1)} for token, value in zip(output.ids, output.log_probs, strict=False)
        ]
        if output.finish:
            self._done = True
            part.finish_reason = str(output.finish)
            if output.finish == FinishReason.STOP:
                self._ended(part)
        if self._decode and self._params.detokenize:
            part.text = self._decode(part.token_ids)
            self._stop_in_text(part)

    def _ended(self, part: Any) -> None:
        """By the end of sequence, which an engine keeps to itself, or by a stop id."""
        last = part.token_ids[-1]
        if last == self._params.end_id and not self._params.ignore_eos:
            if not self._keeps_the_end:
                part.token_ids = part.token_ids[:-1]
        elif last in (self._params.stop_token_ids or ()):
            part.stop_reason = last
            if not self._params.include_stop_str_in_output:
                part.token_ids = part.token_ids[:-1]

    def _stop_in_text(self, part: Any) -> None:
        stops = [self._params.stop] if isinstance(self._params.stop, str) else self._params.stop or []
        for stop in stops:
            at = part.text.find(stop)
            if at >= 0:
                part.text = part.text[: at + (len(stop) if self._params.include_stop_str_in_output else 0)]
                part.finish_reason, part.stop_reason = "stop", stop
                self._done = True  # and nobody tells the engine
                return
