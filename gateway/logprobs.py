"""Log probabilities in the two shapes that OpenAI's API has for them."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from clients.request import Delta


def chat_logprobs(delta: Delta) -> dict[str, Any]:
    """The ``logprobs`` of a chat choice, or of a chunk of one."""
    return {"content": [_token(delta, at) for at in range(len(delta.tokens))], "refusal": None}


def text_logprobs(delta: Delta, offset: int) -> dict[str, Any]:
    """The ``logprobs`` of a text choice; ``offset``: characters of the answer before this delta."""
    chosen = zip(delta.tokens, delta.log_probs, delta.top_log_probs, strict=False)
    return {
        "tokens": [_text(token) for token in delta.tokens],
        "token_logprobs": list(delta.log_probs),
        "top_logprobs": [_alternatives(*each) for each in chosen] or None,
        "text_offset": _offsets(delta.tokens, offset),
    }


def prompt_logprobs(delta: Delta, length: int, *, alternatives: bool) -> dict[str, Any]:
    """The same of a prompt; of its first token there are none.

    Args:
        length: characters of the prompt's text. Its tokens may have more: the model's own before it, or a blank.
        alternatives: they were asked for.
    """
    ahead = sum(map(_length, delta.prompt_tokens)) - length
    told = zip(delta.prompt_tokens[1:], delta.prompt_log_probs, delta.prompt_top_log_probs, strict=False)
    return {
        "tokens": [_text(token) for token in delta.prompt_tokens],
        "token_logprobs": [None, *delta.prompt_log_probs],
        "top_logprobs": [None, *(_alternatives(*each) for each in told)] if alternatives else None,
        "text_offset": [max(0, offset) for offset in _offsets(delta.prompt_tokens, -max(0, ahead))],
    }


def _alternatives(own: bytes, log_prob: float, ranked: Sequence[tuple[bytes, float]]) -> dict[str, float]:
    """The likeliest tokens at a place, and the one that is there; of two with one text the likelier."""
    found: dict[str, float] = {}
    for token, value in (*ranked, (own, log_prob)):
        found.setdefault(_text(token), value)
    return found


def _offsets(tokens: Iterable[bytes], offset: int) -> list[int]:
    """Where each token begins, in characters."""
    return list(accumulate(map(_length, tokens), initial=offset))[:-1]


def _length(token: bytes) -> int:
    return len(token.decode("utf-8", "ignore"))


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The parts of one choice as one."""
    if not parts:
        return None
    whole: dict[str, Any] = {}
    for part in parts:
        for name, values in part.items():
            whole[name] = (whole.get(name) or []) + values if values is not None else whole.get(name)
    return whole


def _token(delta: Delta, at: int) -> dict[str, Any]:
    tops = delta.top_log_probs[at] if at < len(delta.top_log_probs) else ()
    return {
        **_entry(delta.tokens[at], delta.log_probs[at]),
        "top_logprobs": [_entry(token, log_prob) for token, log_prob in tops],
    }


def _entry(token: bytes, log_prob: float) -> dict[str, Any]:
    return {"token": _text(token), "logprob": log_prob, "bytes": list(token)}


def _text(token: bytes) -> str:
    """A token's text; bytes that are no character are shown as OpenAI shows them."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
