"""Retry-After of a server that is away: no sooner than it can be back, by what is known of it."""

import httpx

from gateway.outage import Outage
from tests.gateway.conftest import CHAT, user
from tests.gateway.test_connections import alone

__all__ = ["alone"]  # a gateway without a server


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_as_long_again_or_as_the_last_ones() -> None:
    clock = Clock()
    outage = Outage(clock)
    assert outage.retry_after_s() == 1
    outage.failed()
    assert outage.retry_after_s() == 1
    clock.now += 11
    outage.failed()
    assert outage.retry_after_s() == 11
    clock.now += 100
    assert outage.retry_after_s() == 60
    outage.answered()
    assert outage.retry_after_s() == 11  # until it was last seen away
    clock.now += 1000
    outage.failed()
    clock.now += 2
    assert outage.retry_after_s() == 9


def test_it_is_told(alone: tuple[int, object]) -> None:
    body = {"model": "synthetic", "messages": user("x"), "max_tokens": 3}
    with httpx.Client(base_url=f"http://127.0.0.1:{alone[0]}", timeout=30) as client:
        asked = iter(lambda: client.post(CHAT, json=body), None)
        told = next(answer for answer in asked if answer.headers.get("retry-after") != "1")
    assert told.status_code == 503
    assert int(told.headers["retry-after"]) == 2
