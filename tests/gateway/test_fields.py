"""Every field of every endpoint has a decision, and the gateway does as it says."""

from itertools import chain
from typing import Any

import httpx
import pytest

from gateway.fields_page import PAGE, page
from gateway.openapi import BODIES
from gateway.schema.decisions import Entry, Refused, entries
from tests.gateway.conftest import MESSAGES
from tests.gateway.fields import BASE, LACKED, TAKEN, Json, sent, with_field

FIELDS = [(door, entry) for door, (body, _) in BODIES.items() for entry in entries(body)]
REFUSED = [(door, entry, entry.decision) for door, entry in FIELDS if isinstance(entry.decision, Refused)]


def name(value: Any) -> str | None:
    return value.path if isinstance(value, Entry) else value if isinstance(value, str) else None


def test_every_field_is_decided() -> None:
    assert [(door, entry.path) for door, entry in FIELDS if entry.decision is None] == []


def test_every_field_is_sent() -> None:
    """What is honoured or accepted is in a body of tests/gateway/fields.py; what is refused is sent from here."""
    unsent = []
    for door in BODIES:
        found = sent(door)
        unsent += [
            (door, entry.path)
            for door_, entry in FIELDS
            if door_ == door and not isinstance(entry.decision, Refused) and (entry.model, entry.name) not in found
        ]
    assert unsent == []


@pytest.mark.parametrize(
    ("door", "fields"),
    [(door, fields) for door, each in TAKEN.items() for fields in each],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_what_is_taken(real: httpx.Client, door: str, fields: Json) -> None:
    answer = real.post(door, json=BASE[door] | fields)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("door", "fields"), [(door, fields) for door, each in LACKED.items() for fields in each], ids=str
)
def test_what_the_engine_lacks_is_refused_by_name(real: httpx.Client, door: str, fields: Json) -> None:
    answer = real.post(door, json=BASE[door] | fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert answer.json()["error"]["param"].partition(".")[0] in fields


@pytest.mark.parametrize(("door", "entry", "decision"), REFUSED, ids=name)
def test_what_is_refused(real: httpx.Client, door: str, entry: Entry, decision: Refused) -> None:
    answer = real.post(door, json=with_field(door, entry, {"another": "value"}))
    error = answer.json()["error"]
    assert answer.status_code == 400
    param, _, message = error["message"].partition(": ")
    if door.startswith(MESSAGES):  # whose errors have no param of their own
        assert error["type"] == "invalid_request_error"
    else:
        assert (error["code"], error["param"]) == ("unsupported_parameter", param)
    assert param.rpartition(".")[2] == entry.name
    assert decision.why in message


@pytest.mark.parametrize("door", BODIES)
def test_what_asks_for_nothing(real: httpx.Client, door: str) -> None:
    """Every neutral value of the body's own fields at once, then the second ones, and null."""
    own = [(entry, decision) for of, entry, decision in REFUSED if of == door and entry.model is BODIES[door][0]]
    for turn in range(3):
        values = {entry.name: chain_at(decision.neutral, turn) for entry, decision in own}
        answer = real.post(door, json=BASE[door] | values)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("door", "entry", "decision"),
    [(door, entry, decision) for door, entry, decision in REFUSED if entry.model is not BODIES[door][0]],
    ids=name,
)
def test_what_asks_for_nothing_further_in(real: httpx.Client, door: str, entry: Entry, decision: Refused) -> None:
    for value in (*decision.neutral, None):
        answer = real.post(door, json=with_field(door, entry, value))
        assert answer.status_code == 200, answer.text


def chain_at(neutral: tuple[Any, ...], turn: int) -> Any:
    """The values in turn, then null."""
    return next((value for at, value in enumerate(chain(neutral, [None])) if at == turn), None)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/fields.md is out of date: run make fields-page"
