"""Answer text → events: content, reasoning and tool calls, as the model's family writes them.

``parser_for`` composes what one request needs; ``family_of`` reads the family from a chat template.
Parsers never raise: what is no call, or a broken one, is content.
"""

from contract.chat import NO_FAMILY, TOOL_FAMILIES, family_of
from gateway.parsers.calls import Calls, Family
from gateway.parsers.deepseek import deepseek
from gateway.parsers.events import Content, Event, Parser, Reasoning, ToolCallArguments, ToolCallStart
from gateway.parsers.guided import call_or_text, guided
from gateway.parsers.hermes import hermes
from gateway.parsers.llama3 import llama3
from gateway.parsers.mistral import mistral
from gateway.parsers.reasoning import ReasoningParser, prompt_opens_reasoning, tags_of, writes_reasoning
from gateway.parsers.tape import Tape

__all__ = [
    "GUIDED",
    "NO_FAMILY",
    "TOOL_FAMILIES",
    "Content",
    "Event",
    "Parser",
    "Reasoning",
    "ToolCallArguments",
    "ToolCallStart",
    "family_of",
    "needs_special_tokens",
    "parser_for",
    "prompt_opens_reasoning",
    "tags_of",
    "writes_reasoning",
]

GUIDED = "json"
_FAMILIES: dict[str, Family] = {
    "hermes": hermes,
    "llama3": llama3,
    "mistral": mistral,
    "deepseek": deepseek,
    GUIDED: guided,
}
_SPECIAL_MARKERS = frozenset({"llama3", "mistral", "deepseek"})


class _Plain:
    """Text is content."""

    def push(self, text: str) -> list[Event]:
        return [Content(text)] if text else []

    def finish(self) -> list[Event]:
        return []


class _ToolParser:
    """Drives a family's reading of one answer."""

    def __init__(self, family: Family) -> None:
        self._tape = Tape()
        self._calls = Calls()
        self._reading = family(self._tape, self._calls)

    def push(self, text: str) -> list[Event]:
        self._tape.feed(text)
        next(self._reading)
        return self._calls.drain()

    def finish(self) -> list[Event]:
        self._tape.close()
        next(self._reading, None)
        self._calls.finish()
        return self._calls.drain()


def needs_special_tokens(family: str) -> bool:
    """True where a family's markers are special tokens: ask the ensemble for ``skip_special_tokens=false``."""
    return family in _SPECIAL_MARKERS


def parser_for(
    family: str, *, tools: bool, reasoning: bool, inside: bool = False, names: tuple[str, ...] = ()
) -> Parser:
    """The parser of one answer.

    Args:
        family: one of TOOL_FAMILIES, 'none', or GUIDED where guided decoding makes the answer a call.
        tools: read tool calls; without them their text is content.
        reasoning: split the reasoning off; an answer under guided decoding has none.
        inside: the prompt has opened the reasoning (``prompt_opens_reasoning``).
        names: with GUIDED: of the functions that may be called; the answer may be other text as well.
    """
    if family == GUIDED:
        return _ToolParser(call_or_text(names) if names else guided)
    parser: Parser = _ToolParser(_FAMILIES[family]) if tools and family != NO_FAMILY else _Plain()
    if reasoning:
        parser = ReasoningParser(parser, tags_of(family), inside=inside)
    return parser
