"""Admission of two classes of keys, without a server: who goes first, who yields, and what quotas cost whom."""

import asyncio
from typing import Any

import pytest

from contract.errors import InvalidRequest
from contract.quota import Quota
from gateway.admission import Admission
from gateway.held import Held
from gateway.load import Load
from gateway.quota import Quotas
from gateway.standing import ComeBack
from tests.gateway.test_admission import ONE, Clock, run, waiting

BATCH = {"nightly": Quota(priority="batch"), "weekly": Quota(priority="batch")}


def admission(requests: int = 4, batch: int = 1, **more: Any) -> Admission:
    settings: dict[str, Any] = {"queue_size": 4, "patience_s": 5.0, "quotas": Quotas(BATCH)}
    return Admission(Held(Load(requests), batch=Load(batch)), **(settings | more))


def test_batch_keys_together_hold_their_share_only() -> None:
    async def test() -> None:
        door = admission(requests=4, batch=2)
        first, _ = await door.admit("nightly", ONE), await door.admit("weekly", ONE)
        waits = await waiting(door, "nightly")
        for _ in range(2):
            await asyncio.wait_for(door.admit("ann", ONE), 1)
        door.release(first, 0)
        await waits
        assert door.in_flight.requests == 4

    run(test())


def test_an_interactive_key_is_let_in_before_any_batch_key() -> None:
    async def test() -> None:
        door = admission(requests=1)
        running = await door.admit("ann", ONE)
        batch = await waiting(door, "nightly")
        interactive = await waiting(door, "ann")
        door.release(running, 0)
        await interactive
        assert not batch.done()

    run(test())


def test_a_full_queue_of_batch_requests_yields_to_interactive_ones() -> None:
    async def test() -> None:
        door = admission(requests=1, queue_size=2)
        running = await door.admit("ann", ONE)
        first, last = await waiting(door, "nightly"), await waiting(door, "nightly")
        interactive = [asyncio.create_task(door.admit("ann", ONE)) for _ in range(2)]
        for displaced in (last, first):
            with pytest.raises(ComeBack, match="an interactive request takes this one's place"):
                await displaced
        with pytest.raises(ComeBack, match="2 requests wait already"):
            await door.admit("nightly", ONE)
        door.release(running, 0)
        await interactive[0]

    run(test())


def test_a_batch_request_displaces_no_interactive_one() -> None:
    async def test() -> None:
        door = admission(requests=1, queue_size=3)
        await door.admit("ann", ONE)
        others = [await waiting(door, "ann") for _ in range(3)]
        with pytest.raises(ComeBack, match="3 requests wait already"):
            await door.admit("nightly", ONE)
        assert not any(each.done() for each in others)

    run(test())


def test_a_batch_flood_is_told_the_pace_of_its_own_share() -> None:
    async def test() -> None:
        clock = Clock()
        door = admission(requests=4, batch=1, clock=clock, queue_size=100, patience_s=60)
        for _ in range(5):  # one batch answer every 4 s
            ticket = await door.admit("nightly", ONE)
            clock.now += 4
            door.release(ticket, 0)
        await door.admit("nightly", ONE)
        for _ in range(2):
            await waiting(door, "nightly")
        with pytest.raises(ComeBack, match="room is expected in 9\\.6 s only") as refused:
            await door.admit("nightly", ONE, deadline=clock.now + 5)
        assert refused.value.retry_after_s == pytest.approx(3 * 16 / 5)
        assert door.retry_after_s() == 1  # of an interactive one

    run(test())


def test_more_answers_than_the_share_are_refused_by_name() -> None:
    async def test() -> None:
        with pytest.raises(InvalidRequest, match="3 answers at once; the limit is 2"):
            await admission(requests=4, batch=2).admit("nightly", Load(3, 10))

    run(test())


def test_only_what_was_started_is_charged() -> None:
    async def test() -> None:
        clock = Clock()
        quotas = Quotas({"ann": Quota(requests_per_minute=10, tokens_per_minute=1000)}, clock)
        door = admission(requests=1, queue_size=1, quotas=quotas, clock=clock)

        def left() -> tuple[int, int]:
            standing = quotas.standing("ann")
            assert standing and standing.requests and standing.tokens
            return standing.requests.remaining, standing.tokens.remaining

        running = await door.admit("ann", Load(1, 100))
        assert running.standing == quotas.standing("ann")
        assert left() == (9, 900)
        waiter = await waiting(door, "ann", Load(1, 100))
        assert left() == (8, 800)
        with pytest.raises(ComeBack, match="1 requests wait already") as refused:
            await door.admit("ann", Load(1, 100))
        assert refused.value.standing == quotas.standing("ann")
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert left() == (9, 900)
        door.release(running, 30)
        assert left() == (9, 970)
        crossed = await waiting_granted(door)
        assert left() == (9, 970)
        assert crossed.cancelled()
        lost = await door.admit("ann", Load(1, 100))
        door.release(lost, None)
        assert left() == (8, 870)

    async def waiting_granted(door: Admission) -> asyncio.Task[Any]:
        """A wait that is granted and cancelled in one turn of the loop."""
        ticket = await door.admit("bob", ONE)
        waiter = await waiting(door, "ann", Load(1, 100))
        door.release(ticket, 0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        return waiter

    run(test())


@pytest.mark.parametrize(("limit", "batch"), [(64, 16), (5, 1), (1, 1), (0, 0)])
def test_a_share_is_one_at_least(limit: int, batch: int) -> None:
    assert Load(limit).share(0.25).requests == batch
