"""The doctor's command: a node's table and report, reports beside each other, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest
import typer

from contract.fabric import Fabric
from deploy.doctor.__main__ import main
from deploy.doctor.compare import compare
from deploy.doctor.node import Report
from deploy.doctor.result import Result

CHECKS = ["driver", "topology", "containers", "/dev/shm", "memlock", "ports", "clock", "disk", "route", "RDMA"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A deployment whose ports nobody else has."""
    path = tmp_path / "x.yaml"
    path.write_text(
        "name: x\nengine: {runtime: synthetic}\nports: {http: 18470, grpc: 18471, metrics: 18472, gateway: 18473}\n"
    )
    return path


def doctor(*words: str | Path) -> int | str:
    """What the command exits with: a status, or what Python prints before it exits with 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["doctor", *map(str, words)])
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            typer.run(main)
    code = ended.value.code
    assert code is not None
    return code


def test_this_node(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor(config, "--json", tmp_path / "node.json")
    report = Report.load(json.loads((tmp_path / "node.json").read_text()))
    assert [result.check for result in report.results if result.check != "GPUs"][: len(CHECKS)] == CHECKS
    assert code == any(result.status == "fail" for result in report.results)
    shown = capsys.readouterr().out
    assert all(check in shown for check in CHECKS)
    assert "export GLOO_SOCKET_IFNAME=" in shown
    assert doctor("--compare", tmp_path / "node.json", "--compare", tmp_path / "node.json") == 1
    assert "more than one report" in capsys.readouterr().out


def test_a_head_that_cannot_be_reached_fails(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(config, "--head", "no-such-host.invalid") == 1
    assert "no-such-host.invalid means nothing to this node" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "error: no deployment. Give its YAML"),
        (("configs/nothing.yaml",), "error: no config configs/nothing.yaml"),
        (
            ("--compare", "/nowhere.json"),
            "error: /nowhere.json: No such file or directory. Give files that --json wrote",
        ),
        (("--compare", "pyproject.toml"), "error: pyproject.toml is no report of the doctor"),
    ],
)
def test_refusals(words: tuple[str, ...], message: str) -> None:
    assert str(doctor(*words)).startswith(message)


def test_a_report_that_cannot_be_written(config: Path) -> None:
    assert str(doctor(config, "--json", "/nowhere/node.json")).startswith(
        "error: /nowhere/node.json: No such file or directory"
    )


def report(node: str, *results: Result) -> Report:
    return Report(node, "x", "2026-11-25T18:00:00+00:00", results, Fabric(interface="eth0"))


def driver(version: str) -> Result:
    return Result("driver", "ok", version, "", {"driver": version})


def test_a_report_survives_json() -> None:
    before = report("a", driver("590.44.01"))
    assert Report.load(json.loads(json.dumps(before.dump()))) == before


def test_nodes_that_are_alike() -> None:
    found = compare([report("a", driver("590.44.01")), report("b", driver("590.44.01"))])
    assert found == [Result("nodes", "ok", "a, b"), Result("driver", "ok", "590.44.01")]


def test_a_driver_that_differs_and_one_that_is_not_there() -> None:
    nodes = [report("a", driver("590.44.01")), report("b", driver("580.10")), report("c")]
    found = {result.check: result for result in compare(nodes)}
    assert (found["driver"].status, found["driver"].seen) == ("fail", "590.44.01 on a; 580.10 on b; none on c")


def test_what_is_unwell_on_one_node_is_shown() -> None:
    found = compare([report("a"), report("b", Result("memlock", "fail", "8192 KiB", "no limit"))])
    assert found[-1] == Result("b: memlock", "fail", "8192 KiB", "no limit")
