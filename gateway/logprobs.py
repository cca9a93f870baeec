"""Log probabilities in the two shapes that OpenAI's API has for them."""

from collections.abc import Sequence
from typing import Any

from clients.request import Delta


def chat_logprobs(delta: Delta) -> dict[str, Any]:
    """The ``logprobs`` of a chat choice, or of a chunk of one."""
    return {"content": [_token(delta, at) for at in range(len(delta.tokens))], "refusal": None}


def text_logprobs(delta: Delta, offset: int) -> dict[str, Any]:
    """The ``logprobs`` of a text choice; ``offset``: characters of the answer before this delta."""
    offsets = []
    for token in delta.tokens:
        offsets.append(offset)
        offset += len(token.decode("utf-8", "ignore"))
    tops: list[dict[str, float]] | None = [
        {_text(token): value for token, value in position} for position in delta.top_log_probs
    ] or None
    return {
        "tokens": [_text(token) for token in delta.tokens],
        "token_logprobs": list(delta.log_probs),
        "top_logprobs": tops,
        "text_offset": offsets,
    }


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
