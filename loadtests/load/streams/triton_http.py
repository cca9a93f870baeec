"""Triton's ``generate_stream``: an event a response, each a JSON object of outputs."""

from contextlib import closing
from typing import Any

import msgspec

from loadtests.load.fault import StreamFault
from loadtests.load.rows import Outcome, Row
from loadtests.load.streams.http import lines
from loadtests.load.streams.target import Clock, Target
from loadtests.load.streams.triton import fault, tensors
from loadtests.load.workload import Ask


class _Event(msgspec.Struct):
    text_output: str | list[str] = ""
    output_ids: int | list[int] | None = None  # Triton unpacks arrays of one element
    finish_reason: str = ""
    num_input_tokens: int = 0
    num_output_tokens: int = 0
    arrival_time_ns: int = 0
    first_scheduled_time_ns: int = 0
    error: Any = None


_event = msgspec.json.Decoder(_Event, strict=False).decode
_encode = msgspec.json.encode


class TritonHttp:
    """The transport."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._path = f"/v2/models/{target.model}/generate_stream"

    def __call__(self, ask: Ask, row: Row, clock: Clock) -> str:
        """See :class:`loadtests.load.streams.target.Stream`."""
        text: list[str] = []
        held = 0  # tokens whose text has not come yet
        try:
            with closing(lines(self._target, self._path, _encode(tensors(ask)), row, clock)) as events:
                for now, line in events:
                    payload = line[5:] if line.startswith(b"data:") else line if line.startswith(b"{") else b""
                    if not payload:
                        continue
                    row.ended = now
                    held = self._take(payload, now, row, text, held)
                    if ask.cancel_after is not None and len(row.chunks) >= ask.cancel_after:
                        row.outcome = Outcome.CANCELLED
                        break
        except StreamFault as refused:
            if row.status in {0, 200}:
                raise
            try:
                said = str(_event(refused.detail.encode()).error)
            except msgspec.DecodeError:
                raise refused from None
            raise fault(said, row, row.status) from None
        return "".join(text)

    def _take(self, payload: bytes, now: float, row: Row, text: list[str], held: int) -> int:
        try:
            event = _event(payload)
        except msgspec.DecodeError as error:
            raise StreamFault(Outcome.MID_STREAM, f"an event that is no response: {error}: {payload[:200]!r}") from None
        if event.error is not None:
            raise fault(str(event.error), row)
        piece = event.text_output if isinstance(event.text_output, str) else "".join(event.text_output)
        ids = event.output_ids
        held += len(ids) if isinstance(ids, list) else int(ids is not None)
        if piece:
            text.append(piece)
            row.chunks.append((now, held))
            held = 0
        if ids is not None:
            row.output_tokens += len(ids) if isinstance(ids, list) else 1
        if event.num_output_tokens:
            row.prompt_tokens, row.output_tokens = event.num_input_tokens, event.num_output_tokens
        if event.first_scheduled_time_ns:
            row.queued_s = (event.first_scheduled_time_ns - event.arrival_time_ns) / 1e9
        row.finish_reason = event.finish_reason or row.finish_reason
        return held
