"""The ledger's file: its lines, its rotation, and what a disk that takes nothing costs."""

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.journey import Journey
from gateway.ledger import Ledger
from tests.gateway.conftest import until


def ended(number: int = 0, **more: Any) -> Journey:
    about: dict[str, Any] = {"model": "m", "key": "ann", "status": 200, "finish_reason": "stop", "began": 10.0}
    return Journey(f"id-{number}", "/v1/completions", **(about | more))


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_a_request(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    journey = ended(prompt_tokens=7, completion_tokens=3, admitted=10.5, first_token=10.25)
    ledger.note(journey, now=12.0)
    ledger.note(ended(1, key="", status=429, finish_reason="rate_limit_exceeded", cached_tokens=4), now=10.0)
    ledger.close()
    first, second = written(path)
    assert datetime.fromisoformat(first.pop("at")).tzinfo
    assert first == {
        "id": "id-0",
        "key": "ann",
        "model": "m",
        "route": "/v1/completions",
        "status": 200,
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "cached_tokens": None,
        "completion_tokens": 3,
        "ttft_s": 0.25,
        "e2e_s": 2.0,
    }
    assert (second["key"], second["status"], second["cached_tokens"], second["ttft_s"]) == ("", 429, 4, None)


def test_it_rotates_and_keeps_eight(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", most_bytes=1000)
    for number in range(100):
        ledger.note(ended(number), now=12.0)
    ledger.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["ledger.jsonl", *(f"ledger.jsonl.{number}" for number in range(1, 8))]
    assert all(file.stat().st_size <= 1000 for file in files)
    newest_last = [line["id"] for file in (*files[:0:-1], files[0]) for line in written(file)]
    assert newest_last == [f"id-{number}" for number in range(100 - len(newest_last), 100)]


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    for number in range(2):
        ledger = Ledger(tmp_path / "ledger.jsonl")
        ledger.note(ended(number), now=12.0)
        ledger.close()
    assert [line["id"] for line in written(tmp_path / "ledger.jsonl")] == ["id-0", "id-1"]


def test_one_that_cannot_be_written_says_so_once_and_once_more_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway")
    folder = tmp_path / "later"
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.note(ended(), now=12.0)
    until(lambda: bool(caplog.messages))
    folder.mkdir()
    ledger.note(ended(1), now=12.0)
    ledger.close()
    lost, again = caplog.messages
    assert lost.startswith(f"the ledger {folder}/ledger.jsonl cannot be written, requests go on without it: [Errno 2]")
    assert again == f"the ledger {folder}/ledger.jsonl is written again; 1 requests are missing in it"
    assert [line["id"] for line in written(folder / "ledger.jsonl")] == ["id-1"]


def test_what_is_lost_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(tmp_path / "nowhere" / "ledger.jsonl")
    for number in range(3):
        ledger.note(ended(number), now=12.0)
    ledger.close()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("about", "outcome"),
    [
        ({}, "answered"),
        ({"admitted": 11.0, "finish_reason": ""}, "left"),
        ({"status": 499, "finish_reason": "client_left"}, "left"),
        ({"status": 429, "finish_reason": "rate_limit_exceeded"}, "overloaded"),
        ({"status": 429, "finish_reason": "over_quota"}, "over_quota"),
        ({"status": 400, "finish_reason": "invalid_value"}, "refused"),
        ({"status": 503, "finish_reason": "service_unavailable"}, "failed"),
        ({"admitted": 11.0, "finish_reason": "engine_failed"}, "failed"),
        ({"finish_reason": ""}, "answered"),  # tokens were counted
    ],
)
def test_an_outcome_is_one_word(about: dict[str, Any], outcome: str) -> None:
    assert ended(**about).outcome == outcome
