"""Admission without a server: limits, order, deadlines, and how long a refused client is sent away."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from contract.errors import DeadlineExceeded, InvalidRequest, Overloaded, Unavailable
from contract.quota import Quota
from gateway import first_tokens
from gateway.admission import Admission
from gateway.held import Held, Ticket
from gateway.load import Load, PromptSizes
from gateway.quota import Quotas

ONE = Load(1, 10)
UNLIMITED = Load()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def admission(requests: int = 2, tokens: int = 0, per_key: Load = UNLIMITED, **more: Any) -> Admission:
    settings: dict[str, Any] = {"queue_size": 4, "patience_s": 5.0}
    return Admission(Held(Load(requests, tokens), per_key), **(settings | more))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


async def waiting(door: Admission, key: str = "", load: Load = ONE, **more: Any) -> asyncio.Task[Ticket]:
    """A request that waits."""
    before = door.queued
    task = asyncio.create_task(door.admit(key, load, **more))
    await asyncio.sleep(0)
    assert door.queued == before + 1
    return task


def test_what_fits_starts_and_the_rest_waits_in_order() -> None:
    async def test() -> None:
        door = admission()
        first, _ = await door.admit("", Load(1, 10)), await door.admit("", Load(1, 10))
        third, fourth = await waiting(door), await waiting(door)
        assert door.in_flight == Load(2, 20)
        door.release(first, 0)
        await third
        assert not fourth.done()
        fourth.cancel()
        await asyncio.gather(fourth, return_exceptions=True)
        assert (door.queued, door.in_flight.requests) == (0, 2)

    run(test())


def test_tokens_in_flight_are_limited() -> None:
    async def test() -> None:
        door = admission(requests=10, tokens=100)
        big = await door.admit("", Load(1, 80))
        waiter = await waiting(door, load=Load(1, 30))
        door.release(big, 0)
        assert (await waiter).load == Load(1, 30)

    run(test())


def test_more_tokens_than_there_can_be_are_capped_and_run_alone() -> None:
    async def test() -> None:
        door = admission(requests=10, tokens=100)
        ticket = await door.admit("", Load(1, 5000))
        assert ticket.load.tokens == 100

    run(test())


def test_more_answers_than_there_can_be_are_refused_by_name() -> None:
    async def test() -> None:
        with pytest.raises(InvalidRequest, match="3 answers") as refused:
            await admission().admit("", Load(3, 10))
        assert refused.value.field == "n"

    run(test())


def test_a_key_at_its_limit_lets_others_pass() -> None:
    async def test() -> None:
        door = admission(requests=3, per_key=Load(1, 0))
        mine = await door.admit("me", Load(1, 1))
        again = await waiting(door, "me")
        await asyncio.wait_for(door.admit("you", Load(1, 1)), 1)
        assert not again.done()
        door.release(mine, 0)
        await again

    run(test())


def test_a_full_queue_refuses() -> None:
    async def test() -> None:
        door = admission(requests=1, queue_size=1)
        await door.admit("", Load(1, 1))
        await waiting(door)
        with pytest.raises(Overloaded, match="1 requests wait already"):
            await door.admit("", Load(1, 1))

    run(test())


def test_a_full_queue_of_another_key_is_no_obstacle_to_what_fits() -> None:
    async def test() -> None:
        door = admission(requests=4, queue_size=2, per_key=Load(2, 0))
        for _ in range(2):
            await door.admit("greedy", ONE)
        greedy = [await waiting(door, "greedy") for _ in range(2)]
        for _ in range(2):
            await asyncio.wait_for(door.admit("modest", ONE), 1)
        assert not any(each.done() for each in greedy)

    run(test())


def test_in_a_full_queue_the_key_with_the_most_gives_way() -> None:
    async def test() -> None:
        door = admission(requests=1, queue_size=3)
        running = await door.admit("greedy", ONE)
        first, second, last = [await waiting(door, "greedy") for _ in range(3)]
        modest = asyncio.create_task(door.admit("modest", ONE))
        with pytest.raises(Overloaded, match="another key has its turn"):
            await last
        assert door.queued == 3
        with pytest.raises(Overloaded, match="3 requests wait already"):
            await door.admit("modest", ONE)
        door.release(running, 0)
        door.release(await modest, 0)
        await first
        assert not second.done()

    run(test())


def test_keys_take_turns() -> None:
    async def test() -> None:
        door = admission(requests=2, queue_size=8)
        mine, also_mine = await door.admit("greedy", ONE), await door.admit("greedy", ONE)
        greedy = [await waiting(door, "greedy") for _ in range(3)]
        modest = await waiting(door, "modest")
        door.release(mine, 0)
        await modest
        assert not any(each.done() for each in greedy)
        door.release(also_mine, 0)
        await greedy[0]

    run(test())


def test_an_answer_that_cannot_end_in_time_is_refused_at_once() -> None:
    async def test() -> None:
        clock = Clock()
        door = admission(requests=2, clock=clock)
        for _ in range(20):
            tickets = [await door.admit("", ONE), await door.admit("", ONE)]
            clock.now += 3
            for ticket in tickets:
                door.release(ticket, 0)
        tickets = [await door.admit("", ONE, deadline=clock.now + 1) for _ in range(2)]  # nobody waits: it may try
        with pytest.raises(Overloaded, match=r"is expected in 4\.\d s, the deadline is in 4\.0 s"):
            await door.admit("", ONE, deadline=clock.now + 4)
        await waiting(door, deadline=clock.now + 5)

    run(test())


def test_patience_ends_and_leaves_nothing_behind() -> None:
    async def test() -> None:
        door = admission(requests=1, patience_s=0.05)
        ticket = await door.admit("", Load(1, 1))
        with pytest.raises(Overloaded, match=r"no room within 0\.05 s"):
            await door.admit("", Load(1, 1))
        assert door.queued == 0
        door.release(ticket, 0)
        assert door.in_flight == Load()

    run(test())


def test_a_deadline_ends_the_wait() -> None:
    async def test() -> None:
        door = admission(requests=1)
        await door.admit("", Load(1, 1))
        with pytest.raises(DeadlineExceeded):
            await door.admit("", Load(1, 1), deadline=door.clock() + 0.05)

    run(test())


def test_the_drain_rate_says_when_to_come_back() -> None:
    async def test() -> None:
        clock = Clock()
        door = admission(requests=1, queue_size=100, patience_s=60, clock=clock)
        for _ in range(5):  # one request every 4 s
            ticket = await door.admit("", Load(1, 1))
            clock.now += 4
            door.release(ticket, 0)
        await door.admit("", Load(1, 1))
        assert door.retry_after_s() == pytest.approx(16 / 5)
        for _ in range(3):
            await waiting(door)
        assert door.retry_after_s() == pytest.approx(4 * 16 / 5)

    run(test())


def test_who_would_wait_in_vain_is_refused_at_once() -> None:
    async def test() -> None:
        clock = Clock()
        door = admission(requests=1, patience_s=60, clock=clock)
        for _ in range(5):
            ticket = await door.admit("", Load(1, 1))
            clock.now += 4
            door.release(ticket, 0)
        await door.admit("", Load(1, 1))
        with pytest.raises(Overloaded, match="room is expected in"):
            await door.admit("", Load(1, 1), deadline=clock.now + 1)
        assert door.queued == 0

    run(test())


def test_a_grant_that_comes_with_the_cancel_is_given_back() -> None:
    async def test() -> None:
        door = admission(requests=1)
        ticket = await door.admit("", Load(1, 1))
        waiter = await waiting(door)
        door.release(ticket, 0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert door.in_flight == Load()

    run(test())


def test_closing_refuses_who_waits_and_who_comes() -> None:
    async def test() -> None:
        door = admission(requests=1)
        await door.admit("", Load(1, 1))
        waiter = await waiting(door)
        door.close()
        for refused in (waiter, door.admit("", Load(1, 1))):
            with pytest.raises(Unavailable, match="stopping"):
                await refused
        assert door.queued == 0

    run(test())


def test_prompt_sizes_are_learnt() -> None:
    sizes = PromptSizes()
    assert sizes.estimate(300) == 100
    for _ in range(50):
        sizes.learn(1000, 900)
    assert sizes.estimate(100) == pytest.approx(90, abs=2)


CLASSES = Quotas({"nightly": Quota(priority="batch")})


def test_batch_requests_begin_while_no_first_token_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_tokens, "LONGEST_S", 60.0)

    async def test() -> None:
        door = admission(requests=8, quotas=CLASSES)
        ann, bob = await door.admit("ann", ONE), await door.admit("bob", ONE)
        batch = await waiting(door, "nightly")
        door.first_token(ann)
        door.first_token(ann)
        await asyncio.sleep(0)
        assert not batch.done()
        door.release(bob, 0)  # cancelled before it had one
        next_one = await waiting(door, "nightly")
        door.first_token(await batch)
        await next_one
        assert door.in_flight.requests == 3

    run(test())


def test_batch_requests_are_let_in_one_by_one_however_many_first_tokens_are_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_tokens, "LONGEST_S", 0.05)

    async def test() -> None:
        door = admission(requests=8, quotas=CLASSES)
        await door.admit("ann", ONE)
        first, second = await waiting(door, "nightly"), await waiting(door, "nightly")
        await first
        assert not second.done()
        await second

    run(test())


def test_where_nobody_may_wait_batch_requests_begin() -> None:
    async def test() -> None:
        door = admission(requests=8, quotas=CLASSES, queue_size=0)
        await door.admit("ann", ONE)
        await door.admit("nightly", ONE)

    run(test())
