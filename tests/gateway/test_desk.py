"""A worker and its desk over a pair of sockets, without their processes: what crosses on the way is settled."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidRequest, Overloaded
from contract.spec import Deployment
from gateway import first_tokens
from gateway.admission import Admission
from gateway.backend import connect
from gateway.books import OwnBooks
from gateway.desk.reach import AskedAdmission, Desk, asked_admission
from gateway.desk.seat import Seat
from gateway.keys import Keys
from gateway.load import Load
from gateway.service import Service
from gateway.standing import Allowance, ComeBack
from gateway.versions import Versions

ONE = Load(1, 10)


class Pair:
    """A desk of one place, and two workers of it."""

    async def begin(self, folder: Path) -> None:
        quotas = {"ann": {"tokens_per_minute": 60}, "nightly": {"priority": "batch"}}
        section = {"max_requests": 1, "max_queue_s": 5, "quotas": quotas}
        spec = Deployment.model_validate({"name": "x", "engine": {"runtime": "synthetic"}, "gateway": section})
        backend = connect(spec, folder)
        assert isinstance(backend.admission, Admission)
        self.truth = backend.admission
        self.client = backend.client
        backends = {"x": backend}
        service = Service(backends, Versions(backends, folder, connect), Keys(None), OwnBooks(backends))
        self.desks: list[Desk] = []
        self.doors: list[AskedAdmission] = []
        for _ in range(2):
            seat, desk = Seat(service), Desk(lambda turned: None, lambda: None, lambda: None, lambda: None)
            ours, theirs = socket.socketpair()
            loop = asyncio.get_running_loop()
            for line, end in ((seat.line, ours), (desk.line, theirs)):
                await loop.create_unix_connection(lambda line=line: line, sock=end)  # type: ignore[misc]
            self.desks.append(desk)
            self.doors.append(asked_admission(desk)(spec))

    async def settled(self) -> None:
        """What was said has been heard."""
        for desk in self.desks:
            await desk.beat()


def run(folder: Path, test: Any) -> None:
    async def walk() -> None:
        pair = Pair()
        await pair.begin(folder)
        try:
            await asyncio.wait_for(test(pair), 20)
        finally:
            await pair.client.close()

    asyncio.run(walk())


async def waiting(pair: Pair, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    before = pair.truth.queued
    task = asyncio.create_task(work)
    while pair.truth.queued == before:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return task


def test_a_cancelled_wait_is_told(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        one, other = pair.doors
        ticket = await one.admit("", ONE)
        task = await waiting(pair, other.admit("", ONE))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await pair.settled()
        assert pair.truth.queued == 0
        one.release(ticket, 0)
        await pair.settled()
        assert pair.truth.in_flight == Load()

    run(tmp_path, test)


def test_a_grant_that_crosses_a_cancel_comes_back(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        one, other = pair.doors
        ticket = await one.admit("", ONE)
        task = await waiting(pair, other.admit("", ONE))
        one.release(ticket, 0)
        while pair.truth.queued:  # noqa: ASYNC110
            await asyncio.sleep(0)  # the grant is on its way
        task.cancel()
        with suppress(asyncio.CancelledError):
            other.release(await task, 0)
        await pair.settled()
        await pair.settled()
        assert pair.truth.in_flight == Load()

    run(tmp_path, test)


def test_a_first_token_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_tokens, "LONGEST_S", 60.0)

    async def test(pair: Pair) -> None:
        one, other = pair.doors
        pair.truth.held.limit = Load(2)
        ticket = await one.admit("bob", ONE)
        batch = await waiting(pair, other.admit("nightly", ONE))
        one.first_token(ticket)
        await batch
        one.release(ticket, 0)
        one.first_token(ticket)  # which is gone
        await pair.settled()
        assert pair.truth.in_flight == ONE

    run(tmp_path, test)


def test_a_refusal_is_the_same_at_the_worker(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        one, other = pair.doors
        assert one.most_answers == pair.truth.most_answers == 1
        with pytest.raises(InvalidRequest, match="asks for 3 answers at once; the limit is 1") as refused:
            await one.admit("", Load(3, 10))
        assert refused.value.field == "n"
        await one.admit("", ONE)
        clock = pair.truth.clock
        with pytest.raises(Overloaded, match="1 requests are in flight and no room within") as late:
            pair.truth.patience_s = 0.05
            await other.admit("", ONE, deadline=clock() + 60)
        assert str(late.value).endswith("Try again in 1 s")
        assert isinstance(late.value, ComeBack)
        assert (late.value.retry_after_s, late.value.standing, late.value.spent) == (1.0, None, False)

    run(tmp_path, test)


def test_all_of_a_dead_worker_comes_back(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        one, other = pair.doors
        await one.admit("", ONE)
        first = await waiting(pair, one.admit("", ONE))
        second = await waiting(pair, other.admit("", ONE))
        line = pair.desks[0].line
        assert line._transport
        line._transport.abort()
        ticket = await second
        assert (pair.truth.queued, pair.truth.in_flight.requests) == (0, 1)
        other.release(ticket, 0)
        await pair.desks[1].beat()
        assert pair.truth.in_flight == Load()
        first.cancel()

    run(tmp_path, test)


def test_a_quota_is_kept_at_the_desk_and_told_at_the_worker(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        pair.truth.quotas.clock = lambda: 100.0
        one, other = pair.doors
        ticket = await one.admit("ann", Load(1, 60))
        assert ticket.standing
        assert ticket.standing.tokens == Allowance(60, 0, 60.0)
        with pytest.raises(ComeBack, match="the quota of key ann is 60 tokens a minute") as refused:
            await other.admit("ann", Load(1, 15))
        assert (refused.value.retry_after_s, refused.value.spent) == (15, True)
        assert refused.value.standing == ticket.standing
        one.release(ticket, 10)
        await pair.settled()
        ticket = await other.admit("ann", Load(1, 50))
        line = pair.desks[1].line
        assert line._transport
        line._transport.abort()  # a worker that dies: what it used nobody knows
        while pair.truth.in_flight.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with pytest.raises(ComeBack):
            await one.admit("ann", Load(1, 1))

    run(tmp_path, test)
