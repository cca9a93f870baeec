"""One answer under way: deltas in, events out, counts and the finish reason kept."""

from collections.abc import Sequence

from clients.request import Delta
from contract.errors import Cancelled
from contract.tensors import FinishReason
from gateway.parsers import Content, Event, Parser, Reasoning, ToolCallStart


class Answer:
    """One choice of a response."""

    def __init__(self, parser: Parser | None = None, *, one_call: bool = False) -> None:
        self._parser = parser
        self._one_call = one_call
        self.finish_reason = ""  # OpenAI's, once it ended
        self.matched_stop = ""  # the stop string that ended it
        self.prompt_tokens = 0
        self.cached_tokens: int | None = None  # of those; None: the engine does not tell
        self.completion_tokens = 0  # while it runs, of the deltas that had their ids
        self.reasoning_tokens = 0
        self.calls = 0

    def take(self, delta: Delta) -> Sequence[Event]:
        """What this delta adds to the answer."""
        if delta.finish_reason == FinishReason.CANCELLED:
            raise Cancelled("the server stopped this request")
        if self._parser is None:
            events: Sequence[Event] = (Content(delta.text),) if delta.text else ()
        else:
            events = self._parse(self._parser, delta)
        self.prompt_tokens = delta.num_input_tokens or self.prompt_tokens
        self.completion_tokens += len(delta.output_ids)
        if delta.finish_reason:
            self.completion_tokens = delta.num_output_tokens
            self.cached_tokens = delta.num_cached_tokens
            self.matched_stop = delta.matched_stop
            self.finish_reason = "tool_calls" if self.calls and delta.finish_reason == "stop" else delta.finish_reason
        return events

    def _parse(self, parser: Parser, delta: Delta) -> list[Event]:
        events = parser.push(delta.text) if delta.text else []
        if delta.finish_reason:
            events += parser.finish()
        if any(isinstance(event, Reasoning) for event in events):
            self.reasoning_tokens += len(delta.output_ids)
        if self._one_call:
            events = [event for event in events if not getattr(event, "index", 0)]
        self.calls += sum(isinstance(event, ToolCallStart) for event in events)
        return events
