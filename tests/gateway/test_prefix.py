"""Who is chosen by how a request begins: what is alike stays together, loads are bounded, places are stable."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.prefix import Beginning, Memory, beginning, choose

SYSTEM = "You are a lighthouse keeper. " * 60
TURN = "and then the tide came in, " * 30


@dataclass
class Place:
    """A server."""

    address: str
    in_flight: int = 0
    memory: Memory = field(default_factory=Memory)


def places(*in_flight: int) -> list[Place]:
    return [Place(f"10.0.0.{number}:8001", load) for number, load in enumerate(in_flight)]


def chat(*texts: str, session: str = "") -> Beginning:
    return beginning({"messages": json.dumps([{"role": "user", "content": text} for text in texts])}, session)


def sent(servers: list[Place], begins: Beginning) -> Place:
    """Where a request goes, which its server then remembers."""
    chosen = choose(servers, begins)
    chosen.memory.note(begins)
    return chosen


def test_a_conversation_that_grows_stays() -> None:
    servers = places(1, 1, 1)
    home = sent(servers, chat(SYSTEM, f"0 {TURN}"))
    for turns in range(2, 9):
        assert sent(servers, chat(SYSTEM, *(f"{turn} {TURN}" for turn in range(turns)))) is home


def test_what_shares_its_system_prompt_goes_where_that_is_and_elsewhere_where_that_is_full() -> None:
    servers = places(0, 0)
    home = sent(servers, chat(SYSTEM, "one"))
    assert sent(servers, chat(SYSTEM, "two")) is home
    (other,) = (each for each in servers if each is not home)
    home.in_flight = 2
    assert sent(servers, chat(SYSTEM, "three")) is other
    home.in_flight, other.in_flight = 0, 1
    assert sent(servers, chat(SYSTEM, "four")) is home, "both have it: the fewest in flight"


def test_new_beginnings_are_spread_alike_by_every_process() -> None:
    ours, theirs = places(0, 0, 0), places(0, 0, 0)
    found = []
    for number in range(60):
        begins = chat(f"{number} {TURN}")
        found.append(sent(ours, begins).address)
        assert choose(places(0, 0, 0), begins).address == choose(theirs, begins).address
    assert max(found.count(each.address) for each in ours) <= math.ceil(1.25 * 61 / 3)


def test_a_server_that_goes_moves_its_own_alone() -> None:
    begins = [chat(f"{number} {TURN}") for number in range(40)]
    before = [choose(places(0, 0, 0, 0), each).address for each in begins]
    after = [choose(places(0, 0, 0, 0)[1:], each).address for each in begins]
    assert {old for old, new in zip(before, after, strict=True) if old != new} == {"10.0.0.0:8001"}


def test_a_session_stays_whatever_it_says() -> None:
    servers = places(0, 0, 0)
    home = sent(servers, chat("x", session="a"))
    for number in range(8):
        assert sent(servers, chat(f"{number} {TURN}", session="a")) is home
    home.in_flight = 9
    other = sent(servers, chat("x", session="a"))
    assert other is not home
    assert choose(places(0, 0, 0), chat("x", session="a")).address == home.address


def test_what_is_short_goes_to_the_fewest() -> None:
    assert choose(places(3, 1, 2), chat("hello")).in_flight == 1


def test_adapters_and_tools_begin_otherwise() -> None:
    asked = {"messages": SYSTEM}
    first = beginning(asked).blocks
    assert first != beginning({**asked, "lora_name": "sea"}).blocks
    assert first != beginning({**asked, "tools": "[]"}).blocks
    assert beginning({"input_ids": [1] * 256}).blocks == beginning({"input_ids": [1] * 300}).blocks[:2]


def test_ends_are_forgotten_first_and_a_server_anew_has_nothing() -> None:
    long, short = chat(*[TURN] * 20), chat(TURN)
    memory = Memory(kept=len(short.blocks) + 2)
    memory.note(long)
    assert memory.blocks(long) == memory.kept == len(memory)
    memory.note(short)
    assert memory.blocks(short) == len(short.blocks)
    memory.forget()
    assert (len(memory), memory.share(short)) == (0, 0.0)


_begins = st.builds(
    chat,
    st.sampled_from(["", SYSTEM, TURN, "x" * 600]),
    st.sampled_from(["", SYSTEM, TURN]),
    session=st.sampled_from(["", "", "a", "b"]),
)


@given(
    loads=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    past=st.lists(_begins, max_size=6),
    begins=_begins,
    kept=st.integers(0, 40),
)
def test_no_server_has_more_than_its_bound(
    loads: list[int], past: Iterable[Beginning], begins: Beginning, kept: int
) -> None:
    servers = places(*loads)
    for server in servers:
        server.memory.kept = kept
    for earlier in past:
        sent(servers, earlier)
    chosen = choose(servers, begins)
    assert chosen.in_flight < math.ceil(1.25 * (sum(loads) + 1) / len(loads))
    assert chosen is choose(servers, begins)
    assert 0 <= chosen.memory.share(begins) <= 1
