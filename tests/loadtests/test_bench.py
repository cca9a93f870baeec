"""What a benchmark keeps: each figure as it comes, and when Ctrl-C cuts it, all that it has by then."""

import asyncio
import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from contract.checkout import ROOT
from contract.errors import ServeError
from contract.spec import Deployment, write_spec
from contract.stage import run_dir
from loadtests import prefix, priority
from loadtests.command import kept
from loadtests.lean import sent_away_s
from loadtests.load.rows import Outcome, Row
from loadtests.overload import phase
from tests.e2e.servers import on_free_ports, synthetic


def test_a_flood_of_a_batch_key_holds_its_share_and_is_told_when_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priority, "RAMP_S", 2.0)
    monkeypatch.setenv("CONCH_API_KEYS", "")  # which it sets
    wanted = {"name": "flooded", "engine": {"runtime": "synthetic"}, "limits": {"max_batch_size": 4}}
    config, out = tmp_path / "flooded.yaml", tmp_path / "out.json"
    config.write_text(yaml.safe_dump(wanted | {"gateway": {"max_queue_size": 2}}))
    told = [f"--config={config}", f"--out={out}", "--rounds=1", "--seconds=2", "--shares", "0.5"]
    assert priority.main(told) in (0, 1)  # which is the machine's to say
    (found,) = json.loads(out.read_text())["results"]
    assert found["batch_share"] == 0.5
    assert found["batch_tokens_per_s"] > 0
    assert min(found["answers"]) > 0
    assert found["refused"] == 0


def test_a_refusal_says_when_to_come_back() -> None:
    refused = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\ncontent-length: 2\r\n\r\n{}"
    assert sent_away_s([(0.0, refused)]) == 7
    assert sent_away_s([(0.0, b"HTTP/1.1 200 OK\r\n\r\n")]) == sent_away_s([]) == 0


def test_ctrl_c_ends_a_run_and_its_server(tmp_path: Path) -> None:
    wanted = {"name": "cut-short", "engine": {"runtime": "synthetic", "step_ms": 2}}
    spec = on_free_ports(Deployment.model_validate(wanted))
    config, out = tmp_path / "cut.yaml", tmp_path / "out.json"
    write_spec(config, spec)
    command = [sys.executable, "-m", "loadtests.pipeline", f"--config={config}", f"--out={out}"]
    command += ["--streams", "1", "2", "4", "--seconds", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        for line in run.stdout:
            if line == "}\n":  # the first figure's end
                run.send_signal(signal.SIGINT)
                break
        said = run.stdout.read()
    assert run.returncode == 128 + signal.SIGINT
    assert str(out) in said
    report = json.loads(out.read_text())
    assert report["cut"]
    assert [each["streams"] for each in report["results"]] == [1]
    assert not (run_dir(ROOT, spec.name) / "state.json").exists()


def test_a_failure_keeps_what_was_measured(tmp_path: Path) -> None:
    out, results = tmp_path / "out.json", [{"streams": 1}]
    with pytest.raises(ServeError), kept(out, {"results": results}, results):
        raise ServeError("the server is gone")
    assert json.loads(out.read_text()) == {"results": results, "cut": True}


def test_what_counts_of_an_overload() -> None:
    answers = [Row(number=0, intended=0.0, ended=at) for at in (4.9, 5.0, 14.9, 15.0)]
    refusals = [Row(number=0, intended=0.0, outcome=Outcome.RATE_LIMITED, retry_after_s=told) for told in (2, 1)]
    late = Row(number=0, intended=0.0, outcome=Outcome.TIMEOUT)
    seen = phase([*answers, *refusals, late], 15.0)
    assert (seen.offered, seen.outcomes) == (7, {"answered": 4, "429": 2, "timeout": 1})
    assert (seen.goodput_per_s, seen.retry_after_s) == (0.2, [1, 2])


def test_chats_are_side_by_side_and_outlive_a_server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "STEADY_S", 2.0)
    monkeypatch.setattr(prefix, "AFTER_S", 4.0)
    roots = [tmp_path_factory.mktemp(name) for name in "abc"]
    server = partial(synthetic, max_seq_len=16384, max_input_len=12288)
    with server(roots[0]) as first, server(roots[1]) as second:
        servers = tuple(f"127.0.0.1:{each.spec.ports.grpc}" for each in (first, second))
        gateways = {
            routing: on_free_ports(
                first.spec.model_copy(
                    update={"gateway": first.spec.gateway.model_copy(update={"replicas": servers, "routing": routing})}
                )
            )
            for routing in prefix.ROUTINGS
        }
        with (
            prefix.gateway_of(gateways["prefix"], roots[2] / "prefix.yaml"),
            prefix.gateway_of(gateways["fewest"], roots[2] / "fewest.yaml"),
        ):
            heard = asyncio.run(prefix.side_by_side(gateways, 1))
            figures = {routing: prefix.told(turns) for routing, turns in heard.items()}
            assert [each["requests"] for each in figures.values()] == [24, 24]
            kill = asyncio.run(prefix.killed(gateways["prefix"], roots[1]))
    assert kill["errors"] == []
    assert kill["streaming_at_the_kill"] and kill["sent_after_1_s"]
