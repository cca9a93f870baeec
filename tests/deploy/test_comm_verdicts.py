"""Who is blamed when a collective hangs, how results are judged, and what the command refuses. All without torch."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.doctor.comm.__main__ import main
from deploy.doctor.comm.measured import Measured, Offset
from deploy.doctor.comm.options import Options
from deploy.doctor.comm.pulse import Peer, Signs, verdict
from deploy.doctor.comm.report import Outcome, Said, judge, report

PEERS = {rank: Peer(rank, rank // 2, f"node{rank // 2}") for rank in range(4)}
WELL = Signs("all-reduce", 1.0, 0.2, {1: 0.5, 2: 0.5, 3: 0.5})
OPTIONS = Options("gloo", mib=16, rounds=10, seconds=0, timeout=60, wait=600, floor_gbps=0, json=None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        # Late, but a rank that has just gone is not yet silent: a moment's patience.
        ({"step_s": 30.5}, ""),
        ({"step_s": 34.5}, "did not finish in 30 s though every rank still answers at the head"),
        (
            {"step_s": 30.5, "silent_s": {1: 0.5, 2: 9.0, 3: 9.5}},
            "rank 2 (node 1, node1), rank 3 (node 1, node1) have been",
        ),
        ({"silent_s": {1: 0.5, 2: 31.0, 3: 0.5}}, "rank 2 (node 1, node1) has been silent for 31 s"),
        ({"step": "", "silent_s": {1: 31.0, 2: 0.5, 3: 0.5}}, "waiting for the other ranks did not finish: rank 1 "),
        ({"contact_s": 31.0}, "the head at h:1 has not answered for 31 s"),
        ({"broken": "Connection closed by peer", "broken_s": 0.5}, ""),
        (
            {"broken": "Connection closed by peer", "broken_s": 3.2, "silent_s": {1: 3.1}},
            "rank 1 (node 0, node0) has been",
        ),
        ({"broken": "out of memory", "broken_s": 4.5}, "all-reduce failed though every rank is there: out of memory"),
    ],
)
def test_verdicts(change: dict[str, object], words: str) -> None:
    found = verdict(replace(WELL, **change), PEERS, "h:1", 30)  # type: ignore[arg-type]
    assert words in found
    assert bool(found) == bool(words)


def outcome(*ranks: Said, **options: object) -> Outcome:
    wanted = replace(OPTIONS, **options)  # type: ignore[arg-type]
    return Outcome(wanted, PEERS, dict(enumerate(ranks)), {"torch": "2.13.0"})


def said(seconds: float = 0.01, gbps: float = 8.0, wrong: str = "", clock: Offset | None = None) -> Said:
    return Said([Measured("all-reduce", wrong, seconds, gbps)], clock)


def test_the_slowest_rank_counts() -> None:
    (found, clocks) = judge(outcome(said(), said(0.02, 4.0)))
    assert (found.status, found.seen) == ("ok", "exact; 16 MiB in 20 ms, 4 Gbit/s, slowest at rank 1 (node 0, node0)")
    assert clocks.status == "skipped"


def test_a_floor() -> None:
    assert judge(outcome(said(), said(0.02, 4.0), floor_gbps=3.9))[0].status == "ok"
    found = judge(outcome(said(), said(0.02, 4.0), floor_gbps=100.0))[0]
    assert found.status == "fail"
    assert found.seen.endswith("below 100")


def test_one_wrong_rank_fails() -> None:
    found = judge(outcome(said(), said(wrong="1 of 4 values are wrong")))[0]
    assert (found.status, found.seen) == ("fail", "rank 1 (node 0, node0): 1 of 4 values are wrong")


def test_one_rank_has_no_bus_and_no_floor() -> None:
    found = judge(outcome(said(gbps=0.0), floor_gbps=100.0))[0]
    assert (found.status, found.seen) == ("ok", "exact; 16 MiB in 10 ms; one rank has no bus")


@pytest.mark.parametrize(
    ("clock", "status"),
    [
        (Offset(0.05, 0.001), "ok"),
        (Offset(-0.3, 0.001), "warn"),
        (Offset(7.0, 0.001), "fail"),
        (Offset(0.3, 0.25), "ok"),
    ],
)
def test_clocks(clock: Offset, status: str) -> None:
    found = judge(outcome(said(), said(), said(clock=clock)))[1]
    assert found.status == status
    assert found.seen.startswith("rank 2 (node 1, node1) is ")


def test_what_did_not_run_says_why() -> None:
    skipped = replace(outcome(), skipped="NCCL needs a GPU")
    assert [(each.status, each.seen) for each in judge(skipped)] == [("skipped", "NCCL needs a GPU")]
    found = judge(outcome(Said([Measured("p2p", skipped="one rank")], None)))[0]
    assert (found.status, found.seen) == ("skipped", "one rank")


def test_the_report(tmp_path: Path) -> None:
    path = tmp_path / "comm.json"
    assert report(outcome(said(), said(0.02, 4.0), floor_gbps=100.0, json=path))
    data = json.loads(path.read_text())
    assert data["failed"]
    assert data["options"]["floor_gbps"] == 100.0
    assert Said.load(json.dumps(data["measured"]["1"])) == said(0.02, 4.0)


def test_the_worse_of_two_rounds() -> None:
    fast, slow, wrong = Measured("x", seconds=1), Measured("x", seconds=2), Measured("x", wrong="all", seconds=1)
    assert fast.worse(slow) == slow.worse(fast) == slow
    assert slow.worse(wrong) == wrong.worse(slow) == wrong


def comm(monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    """What the command exits with."""
    monkeypatch.setattr(sys, "argv", ["comm", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "error: torch is not in "),
        (("--nodes", "2"), "error: --head is needed"),
        (("--nodes", "2", "--head", "h", "--node-rank", "2"), "error: --node-rank 2 is none of 2 nodes"),
    ],
)
def test_refusals(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str) -> None:
    assert str(comm(monkeypatch, *words)).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backend", "ucx"), "invalid choice: 'ucx'"),
        (("--mib", "0"), "--mib: 0 must be a whole number from 1"),
        (("--timeout", "soon"), "--timeout: soon must be a number of seconds"),
        (("--floor-gbps", "-1"), "--floor-gbps: -1 must be a number from 0"),
    ],
)
def test_values_that_mean_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert comm(monkeypatch, *words) == 2
    assert message in capsys.readouterr().err
