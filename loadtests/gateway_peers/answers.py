"""The one answer that every gateway here is asked for, as its upstream has it in memory."""

import json
from typing import Any

MODEL = "instant"
WORD = "tide "  # a chunk of a streamed answer
WORDS = 20
PROMPT = [{"role": "user", "content": "What comes in twice a day? Answer in one word, and say it often."}]
PROMPT_TOKENS = 17

_USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": WORDS, "total_tokens": PROMPT_TOKENS + WORDS}
_ID = "chatcmpl-5f1c2a7e9b3d4f60"
_CREATED = 1_790_000_000


def asked(*, stream: bool) -> dict[str, Any]:
    """The body of a request; a stream asks for its usage, so that no gateway has to count tokens itself."""
    body: dict[str, Any] = {"model": MODEL, "messages": PROMPT, "max_tokens": WORDS, "temperature": 0}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


def whole() -> bytes:
    """OpenAI's chat.completion."""
    message = {"role": "assistant", "content": WORD * WORDS, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}
    return json.dumps(_named("chat.completion", [choice]) | {"usage": _USAGE}).encode()


def events() -> list[bytes]:
    """OpenAI's stream: who speaks, the words, the end, what it used."""
    said: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        *(({"content": WORD}, None) for _ in range(WORDS)),
        ({}, "length"),
    ]
    chunks = [
        [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
        for delta, finish_reason in said
    ]
    told = [_named("chat.completion.chunk", choices) | {"usage": None} for choices in chunks]
    told.append(_named("chat.completion.chunk", []) | {"usage": _USAGE})
    return [*(b"data: %b\n\n" % json.dumps(each).encode() for each in told), b"data: [DONE]\n\n"]


def _named(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": _ID, "object": kind, "created": _CREATED, "model": MODEL, "choices": choices}
