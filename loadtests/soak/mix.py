"""Which request comes as the nth: the same for the same seed, so a soak that goes on asks what has not been asked."""

import itertools
import json
import random
from typing import Any

from clients.wire import to_message
from contract.spec import Deployment
from contract.tensors import ENSEMBLE_ALIAS
from loadtests.soak.ask import Ask, Way

CANCELS, SLOW, MALFORMED = 0.15, 0.02, 0.05  # shares
_WAYS = (Way.GRPC, Way.GRPC, Way.CHAT, Way.TEXT)
_LONGEST = 256  # tokens
_DEEP = "[" * 5000 + "]" * 5000

# Of a good body, or of a good message: what is changed so that it must be refused.
_BAD_FIELDS: tuple[dict[str, Any], ...] = (
    {"max_tokens": "many"},
    {"max_tokens": -1},
    {"temperature": 99},
    {"top_p": [1]},
    {"stop": {"a": 1}},
    {"no_such_field": 1},
    {"model": "no-such-model"},
    {"stream": "perhaps"},
    {"logit_bias": {"x": 1}},
    {"response_format": {"type": "poem"}},
)
_BAD_TENSORS: tuple[dict[str, Any], ...] = (
    {"max_tokens": -1},
    {"temperature": 9.0},
    {"text_input": ""},
    {"text_input": b"\xff\xfe"},
    {"stop_words": [b"\xc3"]},
    {"min_tokens": 500, "max_tokens": 2},
    {"guided_decoding_guide_type": "poem"},
    {"logit_bias": "{"},
    {"messages": "[]"},
)


def nth(number: int, seed: int, spec: Deployment) -> Ask:
    """The nth request of a soak."""
    rng = random.Random(f"{seed}-{number}")
    way = rng.choice(_WAYS)
    if rng.random() < MALFORMED:
        return _malformed(way, rng, spec.name)
    prompt = f"stream {number} of the soak says: héllo 🌊. " * rng.randint(1, 8)
    cancels, slow = rng.random() < CANCELS, rng.random() < SLOW
    if cancels:  # one that cancels must not have ended before
        return ask(way, prompt, _LONGEST, spec, cancel_after=rng.randint(0, 3))
    tokens = _LONGEST if slow else min(_LONGEST, 1 + int(rng.expovariate(1 / 32)))
    return ask(way, prompt, tokens, spec, pause_s=rng.choice((0.005, 0.02)) if slow else 0.0)


def ask(
    way: Way, prompt: str, tokens: int, spec: Deployment, *, cancel_after: int | None = None, pause_s: float = 0.0
) -> Ask:
    """A sound request: streamed, and of so many tokens; what a model says to it nobody knows."""
    said = f"user: {prompt}\n" if way is Way.CHAT else prompt  # the synthetic engine says its prompt, over and over
    echo = bytes(itertools.islice(itertools.cycle(said.encode()), tokens)).decode(errors="replace")
    sent = (
        to_message(ENSEMBLE_ALIAS, _tensors(prompt, tokens), outputs=("text_output", "finish_reason"))
        if way is Way.GRPC
        else json.dumps(_body(way, prompt, tokens, spec.name)).encode()
    )
    return Ask(
        way, sent, echo if spec.engine.runtime == "synthetic" else None, cancel_after=cancel_after, pause_s=pause_s
    )


def _malformed(way: Way, rng: random.Random, model: str) -> Ask:
    if way is Way.GRPC:
        tensors = _tensors("malformed", 4) | rng.choice(_BAD_TENSORS)
        return Ask(way, to_message(ENSEMBLE_ALIAS, tensors, outputs=("text_output",)), sound=False)
    good = json.dumps(_body(way, "malformed", 4, model)).encode()
    broken = rng.choice(
        (
            good[: rng.randrange(len(good))],
            good.replace(b'"', b"'", 1),
            good[:-1] + b', "metadata": ' + _DEEP.encode() + b"}",
            json.dumps(_body(way, "malformed", 4, model) | rng.choice(_BAD_FIELDS)).encode(),
        )
    )
    return Ask(way, broken, sound=False)


def _tensors(prompt: str, tokens: int) -> dict[str, Any]:
    return {"text_input": prompt, "max_tokens": tokens, "stream": True}


def _body(way: Way, prompt: str, tokens: int, model: str) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": prompt}]} if way is Way.CHAT else {"prompt": prompt}
    return {"model": model, "max_tokens": tokens, "stream": True, **asked}
