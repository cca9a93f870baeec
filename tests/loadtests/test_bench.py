"""What a benchmark keeps: each figure as it comes, and when Ctrl-C cuts it, all that it has by then."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.manifest import Manifest, this_machine
from contract.spec import Deployment, load_spec
from contract.stage import run_dir
from loadtests import own_server
from loadtests.bench import bench, parser
from loadtests.fleet import Requests
from loadtests.lean import Timeline
from loadtests.overload import Answer, phase
from loadtests.peers import in_vllm
from loadtests.served import ROOT
from tests.e2e.servers import on_free_ports

MANIFEST = Manifest(
    deployment="tide", version="1", runtime="openvino", precision="fp32", origin=None, built_with={},
    built_for=this_machine(), max_position_embeddings=64, vocab_size=200, eos_token_ids=(2,), measured=None,
    built_at="", build_seconds=0, size_bytes=0, files={},
)  # fmt: skip


class Asked:
    """Answers at once; Ctrl-C is pressed when it is asked for the time that is ``cut``."""

    def __init__(self, cut: int) -> None:
        self.cut, self.times = cut, 0

    def __call__(self, requests: Requests, streams: int) -> list[Timeline]:
        assert len(requests) == streams
        self.times += 1
        if self.times == self.cut:
            raise KeyboardInterrupt
        return [Timeline(1.0, [(1.5, 1), (2.0, 1)]) for _ in requests]


def report_of(out: Path, cut: int, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], list[str]]:
    """What is written, and the lines that were shown on the way."""
    options = parser("", 2, "unused.json").parse_args(["tide.yaml", "--streams", "1", "3", f"--out={out}"])
    ways = {"raw": Asked(0), "grpc": Asked(cut)}
    if cut:
        with pytest.raises(KeyboardInterrupt):
            bench(ways, MANIFEST, options, {"more": 1})
    else:
        bench(ways, MANIFEST, options, {"more": 1})
    report: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    return report, [line[9:] for line in capsys.readouterr().out.splitlines() if "tokens/s:" in line]


def test_each_round_is_shown_and_all_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, shown = report_of(tmp_path / "out.json", 0, capsys)
    assert shown == [
        f"{streams} streams, {of}, tokens/s: raw {2 * streams}.0, grpc {2 * streams}.0"
        for streams in (1, 3)
        for of in ("warm-up", "round 1 of 2", "round 2 of 2")
    ]
    assert report["results"]["3"]["grpc"]["rounds_tokens_per_s"] == [6, 6]
    assert (report["more"], report["rounds"], report["machine"]["arch"]) == (1, 2, this_machine().arch)
    assert "cut" not in report


def test_what_ctrl_c_cuts_is_kept_and_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, shown = report_of(tmp_path / "out.json", 6, capsys)
    assert len(shown) == 5
    assert report["cut"]
    assert report["results"]["1"].keys() == {"raw", "grpc"}
    assert {way: each["rounds_tokens_per_s"] for way, each in report["results"]["3"].items()} == {
        "raw": [6, 6],
        "grpc": [6],
    }


def test_what_is_cut_before_its_first_figure_leaves_an_earlier_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.json").write_text('{"earlier": true}')
    assert report_of(tmp_path / "out.json", 1, capsys)[0] == {"earlier": True}


def test_ctrl_c_ends_a_run_and_its_server(tmp_path: Path) -> None:
    wanted = {"name": "cut-short", "engine": {"runtime": "synthetic", "step_ms": 2}}
    spec = on_free_ports(Deployment.model_validate(wanted))
    config, out = tmp_path / "cut.yaml", tmp_path / "out.json"
    config.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
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


def test_what_counts_of_an_overload() -> None:
    answers = [Answer("answered", at) for at in (104.9, 105.0, 114.9, 115.0)]
    refusals = [Answer("429", 106.0, 2), Answer("429", 107.0, 1), Answer("TimeoutError", 108.0)]
    seen = phase([*answers, *refusals], 100.0, 15.0)
    assert (seen.offered, seen.outcomes) == (7, {"answered": 4, "429": 2, "TimeoutError": 1})
    assert (seen.goodput_per_s, seen.retry_after_s) == (0.2, [1, 2])


def test_the_peer_has_our_limits_and_our_precision() -> None:
    spec = load_spec(ROOT / "configs" / "smollm2-135m-fp32.yaml")
    told = own_server.command(Path("/checkpoint"), in_vllm(spec), 9100)
    assert {"--dtype=float32", "--max-model-len=2048", "--max-num-seqs=65", "--max-num-batched-tokens=2048"} <= {*told}
