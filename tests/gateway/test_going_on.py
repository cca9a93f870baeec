"""The real model behind one gateway on two servers: one is killed, and each answer is what it would have been."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.supervisor import Running
from tests.e2e.servers import smollm2
from tests.gateway.conftest import TEXT, active
from tests.gateway.test_replicas import Stream, door, kill, until

PROMPTS = (
    "🙂🚀👩‍👩‍👧‍👦 Emoji, emoji: 🎉🎉🎉🎉🎉🎉🎉🎉",
    4 * "日本語の文章：今日は天気がいいですね。",
    8 * "Привет, 世界! 🌊 ",
    4 * "def add(a, b):\n\treturn a + b\n\n",
)
ASKED: dict[str, Any] = {
    "model": "smollm2-135m",
    "max_tokens": 150,
    "temperature": 0,
    "ignore_eos": True,
    "stop": ["never said"],
    "stream": True,
}
BARRED = {"presence_penalty": 0.5}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    a, b = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    with smollm2(a, exact=True) as first, smollm2(b, exact=True) as second:
        yield first, second


def whole(client: httpx.Client, prompt: str) -> str:
    """The answer of one server alone."""
    answer = client.post(TEXT, json=ASKED | {"prompt": prompt, "stream": False})
    return str(answer.json()["choices"][0]["text"])


def test_a_killed_server_is_not_seen_in_any_answer(two: tuple[Running, Running], tmp_path: Path) -> None:
    first, second = two
    with door(tmp_path, first, second, routing="fewest") as client:
        alone = [whole(client, prompt) for prompt in PROMPTS]
        streams = [Stream(client, **ASKED, prompt=prompt) for prompt in PROMPTS]
        until(lambda: (active(first), active(second)) == (2, 2))
        barred: list[Stream] = []
        for prompt in PROMPTS[:2]:  # one after the other: one on each server
            barred.append(Stream(client, **ASKED, **BARRED, prompt=prompt))
            until(lambda: active(first) + active(second) == 4 + len(barred))
        until(lambda: all(stream.text for stream in (*streams, *barred)))
        assert (active(first), active(second)) == (3, 3)
        kill(second)
        for stream in (*streams, *barred):
            stream.join(120)
        assert [stream.error for stream in streams] == [""] * 4
        assert [stream.text for stream in streams] == alone
        assert all(stream.whole for stream in streams)
        assert sorted(stream.error for stream in barred) == [
            "",
            "presence_penalty: the server went in the middle of this answer, which another cannot go on with. "
            "Try again: another one takes it",
        ]
