"""The soak: what it counts as what, what it keeps between its parts, and a short one against a real server."""

import asyncio
from pathlib import Path

import pytest

from contract.errors import ConchError
from contract.spec import Deployment, load_spec, write_spec
from loadtests.family import family_of, memory_mib
from loadtests.served import served, state_of
from loadtests.soak.ask import Ask, End, Story, Way
from loadtests.soak.kills import Kills, Outage
from loadtests.soak.memory import Stretch, is_flat, overall
from loadtests.soak.mix import nth
from loadtests.soak.part import Part
from loadtests.soak.progress import Progress, Settings, resumed
from loadtests.soak.tally import Tally
from tests.e2e.servers import on_free_ports

SETTINGS = Settings("soak-test", 8, 3, 3000, kills=False)


def story(end: End, *, text: str = "tide", code: int = 0, sound: bool = True, way: Way = Way.CHAT) -> Story:
    return Story(Ask(way, b"", "tide", sound), began=10, ended=20, end=end, text=text, code=code)


@pytest.mark.parametrize(
    ("ended", "excused", "counted"),
    [
        (story(End.WHOLE), False, "complete"),
        (story(End.WHOLE, text="tid"), False, "wrong"),
        (story(End.WHOLE, text="tid"), True, "wrong"),
        (story(End.CANCELLED), False, "cancelled"),
        (story(End.TOLD, code=503), True, "told"),
        (story(End.TOLD, code=503), False, "lost"),
        (story(End.BROKEN), True, "told"),
        (story(End.BROKEN), False, "lost"),
        (story(End.SILENT), True, "lost"),  # no kill makes a cut answer look whole
        (story(End.HUNG), True, "hung"),
        (story(End.TOLD, code=400, sound=False), False, "refused"),
        (story(End.TOLD, code=429, sound=False), False, "lost"),
        (story(End.TOLD, code=500, sound=False), False, "lost"),
        (story(End.WHOLE, sound=False), False, "lost"),  # accepted, though malformed
    ],
)
def test_each_request_is_counted_once(ended: Story, excused: bool, counted: str) -> None:
    tally = Tally()
    tally.take(ended, excused=excused)
    assert (tally.requests, getattr(tally, counted)) == (1, 1)
    assert tally.clean == (counted not in ("lost", "hung", "wrong"))
    assert bool(tally.faults) != tally.clean


@pytest.mark.parametrize(
    ("victim", "began", "ended", "way", "excused"),
    [
        ("tritonserver", 15, 16, Way.GRPC, True),
        ("tritonserver", 15, 16, Way.CHAT, True),
        ("gateway", 15, 16, Way.CHAT, True),
        ("gateway", 15, 16, Way.GRPC, False),  # it is not on their way
        ("tritonserver", 21, 22, Way.GRPC, False),
        ("tritonserver", 5, 9, Way.GRPC, False),
        ("tritonserver", 5, float("inf"), Way.GRPC, True),
    ],
)
def test_a_kill_explains_what_it_touched(victim: str, began: float, ended: float, way: Way, excused: bool) -> None:
    kills = Kills(Deployment.model_validate({"name": "x", "engine": {"runtime": "synthetic"}}), 0)
    kills.outages.append(Outage(victim, began, ended))
    assert kills.excuses(story(End.TOLD, way=way)) is excused


def test_memory_that_fills_a_cache_is_flat_and_a_leak_is_not() -> None:
    cache, leak = Stretch(), Stretch()
    for second in range(80):
        cache.samples.append((100 * second, {"stage": min(50.0 + second, 80.0)}))
        leak.samples.append((100 * second, {"stage": 50.0 + second / 20, "new": 1.0}))
    assert cache.growth() == {"stage": 0.0}
    assert leak.growth() == {"new": 0.0, "stage": 5.0}  # 0.05 MiB for 100 requests
    assert Stretch(leak.samples[:15]).growth() == {}
    assert is_flat(overall([cache.growth(), cache.growth(), leak.growth()]))
    assert not is_flat(overall([cache.growth(), leak.growth(), leak.growth()]))
    assert not is_flat({})


def test_the_nth_request_is_always_the_same_and_all_kinds_come() -> None:
    spec = Deployment.model_validate({"name": "m", "engine": {"runtime": "synthetic"}})
    asks = [nth(number, 1, spec) for number in range(400)]
    assert [each.sent for each in asks] == [nth(number, 1, spec).sent for number in range(400)]
    assert {each.way for each in asks} == set(Way)
    assert {each.way for each in asks if not each.sound} == set(Way)
    assert any(each.pause_s for each in asks)
    assert any(each.cancel_after is not None for each in asks)


def test_what_a_model_says_is_not_judged() -> None:
    model = {"name": "m", "engine": {"precision": "int8"}, "source": {"kind": "path", "path": "/checkpoint"}}
    asks = [nth(number, 1, Deployment.model_validate(model)) for number in range(400)]
    assert {each.echo for each in asks if each.sound} == {None}
    whole = Story(next(each for each in asks if each.sound), began=10, ended=20, end=End.WHOLE, text="anything")
    tally = Tally()
    tally.take(whole, excused=False)
    assert tally.complete == 1


def test_progress_is_kept_and_is_of_one_soak(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    progress = resumed(path, SETTINGS)
    progress.tally.take(story(End.WHOLE), excused=False)
    progress.back_s["gateway"] = [1.5]
    progress.save(path)
    again = resumed(path, SETTINGS)
    assert again == progress
    assert again.report()["kills"]["gateway"] == {"times": 1, "median_s": 1.5, "most_s": 1.5}
    with pytest.raises(ConchError, match="another soak"):
        resumed(path, Settings("soak-test", 8, 4, 3000, kills=False))


def test_a_soak_in_two_parts(tmp_path: Path) -> None:
    spec = on_free_ports(
        Deployment.model_validate({"name": "soak-test", "engine": {"runtime": "synthetic", "step_ms": 2}})
    )
    config = tmp_path / "soak.yaml"
    write_spec(config, spec)
    progress = Progress(SETTINGS)
    saved: list[int] = []
    with served(config):
        kills = Kills(load_spec(config), int(state_of(spec)["supervisor_pid"]))
        for wanted in (30, 150):

            def enough(wanted: int = wanted) -> bool:
                return progress.tally.requests >= wanted

            asyncio.run(Part(spec, kills, progress, enough, lambda: saved.append(progress.tally.requests)).run())
        memory = memory_mib(family_of(kills.supervisor_pid))
    assert progress.clean, progress.tally.faults
    assert (progress.parts, progress.left) == (2, {})
    assert 150 <= progress.tally.requests < 150 + 2 * SETTINGS.streams
    assert progress.tally.complete and progress.tally.cancelled and progress.tally.refused
    assert {"gateway", "tritonserver", "soak-test_preprocess", "soak-test_engine", "soak-test_postprocess"} <= {*memory}
    assert not state_of(spec)
