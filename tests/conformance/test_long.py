"""Not in CI (``-m long``): 300 prompts streamed and not, 1,000 malformed requests, and what they leave behind."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from anthropic import Anthropic
from openai import OpenAI
from schemathesis import GenerationMode

from tests.conformance.fuzz import operations, send_many
from tests.conformance.malformed import answer_to, malformed
from tests.conformance.target import Target, user
from tests.conformance.test_messages import TOOLS, asked, said, streamed

pytestmark = pytest.mark.long

_SEEDS = [
    "Tell me about {}.",
    "Repeat exactly: {} {} {}",
    "Translate to French: {}",
    "What comes after {}, {}?",
    "Write a poem with {} in every line.",
]
_SUBJECTS = [
    *(
        "the sea",
        "a b  c   d",
        "x" * 1500,
        "word " * 250,
        "\n\n\ttabs\tand\nlines\r\n",
        "NUL \x00 and \x7f",
        "<|im_end|>",
    ),
    *("👩‍👩‍👧‍👦", "🏳️‍🌈 👍🏽", "🇵🇹🇯🇵", "🫨🫠", "e\u0301 a\u030a", "\u200b\u200d\ufeff", "ﬁ ½ ①", "𝔘𝔫𝔦"),
    *("港の明かり", "海港的灯", "항구의 불빛", "बंदरगाह", "नमस्ते दुनिया", "ก็ดี", "مرحبا", "שלום", "Привет", "Γειά"),
    *("def f(x):\n    return x ** 2", "SELECT * FROM t WHERE a='b';", '{"a": [1, 2, {"b": null}]}', "<b>&amp;</b>"),
    *("for (;;) { ++i; }", "∑ x² dx ≤ ∞", "C:\\path\\n", "🙂" * 40, "日本" * 100, "1 2 3 4 5 6 7 8 9 10"),
    *("https://example.org/?q=a%20b", "$$\\frac{1}{2}$$", "```py\nprint()\n```", "…—–“”", "AAAA" * 50),
]
PROMPTS = [seed.replace("{}", subject) for seed in _SEEDS for subject in _SUBJECTS][:200]
BATCH = 20
assert len(PROMPTS) == 200


@pytest.mark.parametrize("first", range(0, len(PROMPTS), BATCH))
def test_streamed_is_unstreamed(client: OpenAI, model: str, first: int) -> None:
    different = []
    for prompt in PROMPTS[first : first + BATCH]:
        body: dict[str, Any] = {"model": model, "messages": user(prompt), "max_tokens": 48, "temperature": 0}
        whole = client.chat.completions.create(**body).choices[0]
        choices = [chunk.choices[0] for chunk in client.chat.completions.create(**body, stream=True)]
        text = "".join(choice.delta.content or "" for choice in choices)
        if (text, choices[-1].finish_reason) != (whole.message.content, whole.finish_reason):
            different.append((prompt, text, whole.message.content))
    assert not different, json.dumps(different, ensure_ascii=False, indent=1)


@pytest.mark.parametrize("first", range(0, 100, BATCH))
def test_messages_streamed_are_unstreamed(anthropic: Anthropic, model: str, first: int) -> None:
    """100 prompts; of four, one may call a tool and one must."""
    choices: list[dict[str, Any]] = [{}, {"tools": TOOLS}, {}, {"tools": TOOLS, "tool_choice": {"type": "any"}}]
    different = []
    for at, prompt in enumerate(PROMPTS[::2][first : first + BATCH]):
        body = asked(model, prompt, **choices[at % 4])
        anthropic.messages.create(**body)  # before it, the cache holds less of this prompt, and a near-tie may turn
        found, whole = said(streamed(anthropic, body)), said(anthropic.messages.create(**body))
        if found != whole:
            different.append((prompt, found, whole))
    assert not different, json.dumps(different, ensure_ascii=False, indent=1)


def test_1000_malformed_requests(target: Target, http: httpx.Client, model: str) -> None:
    """No 5xx, no hang, and afterwards the server is as it was."""
    sent = sum(send_many(operation, target, GenerationMode.NEGATIVE, 100) for operation in operations(target))
    before = held(target)
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda request: answer_to(target, request), malformed(target, 1000 - sent, seed=1)))
    print(f"{sent} from the document, by hand: {dict(statuses)}")
    assert not [status for status in statuses if status >= 500]
    assert http.post("/chat/completions", json={"model": model, "messages": user("Hi"), "max_tokens": 2}).is_success
    if target.own:
        after = held(target)
        print(f"before {before}, after {after}")
        for name, (memory_mib, files) in after.items():
            assert memory_mib < before[name][0] + 50, name
            assert files <= before[name][1] + 8, name


def held(target: Target) -> dict[str, tuple[int, int]]:
    """Memory in MiB and open files of the gateway and of everything behind it, by command line."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        name = " ".join(process.cmdline())[-60:]
        found[f"{process.pid} {name}"] = (process.memory_info().rss >> 20, process.num_fds())
    return found
