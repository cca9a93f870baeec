"""What timelines come to, and each transport against a server that the test starts and stops itself."""

import asyncio
from pathlib import Path

import pytest

from contract import programs
from contract.checkout import ROOT
from contract.errors import ServeError
from contract.spec import Deployment, write_spec
from contract.stage import run_dir
from loadtests.fleet import asker
from loadtests.lean import Timeline
from loadtests.load.scrape import page
from loadtests.served import served
from loadtests.soak.gauges import settled
from loadtests.timelines import itl, speed, tokens_per_response, ttft
from tests.e2e.servers import on_free_ports


def test_a_gap_is_shared_among_its_tokens() -> None:
    lines = [Timeline(1.0, [(1.2, 1), (1.6, 2)])]
    assert speed(lines) == pytest.approx(3 / 0.6)
    assert ttft(lines) == pytest.approx([0.2])
    assert itl(lines) == pytest.approx([0.2, 0.2])
    assert tokens_per_response(lines) == 1.5


def test_every_transport_against_a_server_of_its_own(tmp_path: Path) -> None:
    wanted = {"name": "measured", "engine": {"runtime": "synthetic", "step_ms": 2}}
    spec = on_free_ports(Deployment.model_validate(wanted))
    config = tmp_path / "measured.yaml"
    write_spec(config, spec)
    with served(config):
        every_transport(spec)
        assert asyncio.run(settled(spec)) == {}
    assert not (run_dir(ROOT, spec.name) / "state.json").exists()


@pytest.mark.parametrize(
    ("fault", "pressed"),
    [
        (KeyboardInterrupt(), [programs.REPOSITORY, (*programs.SERVING, "up"), (*programs.SERVING, "down")]),
        # Which is not ours to stop.
        (ServeError("another one of this name runs"), [programs.REPOSITORY, (*programs.SERVING, "up")]),
    ],
)
def test_a_start_that_does_not_end_leaves_nothing_of_ours(
    fault: BaseException, pressed: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []

    def press(program: programs.Program, *arguments: str) -> None:
        seen.append((*program, arguments[0]) if program == programs.SERVING else program)
        if arguments[0] == "up":
            raise fault

    monkeypatch.setattr("loadtests.served._press", press)
    with pytest.raises(type(fault)), served(tmp_path / "tide.yaml"):
        pass
    assert seen == pressed


def every_transport(spec: Deployment) -> None:
    """The same answer, and a first delta of one token, over gRPC, HTTP and the gateway; and a refusal over each."""
    ports, prompt = spec.ports, [*b"tide "]
    ways = (
        asker("grpc", ports.host, ports.grpc, spec.name),
        asker("http", ports.host, ports.http, spec.name),
        asker("openai", spec.gateway.host, ports.gateway, spec.name),
    )
    for ask in ways:
        (timeline,) = ask([{"prompt": prompt, "max_tokens": 12}], 1)
        assert (timeline.text, timeline.finish_reason, timeline.error) == ("tide tide ti", "length", "")
        assert timeline.deltas[0][1] == 1
        assert sum(count for _, count in timeline.deltas) == 12
        assert timeline.sent < timeline.deltas[0][0] <= timeline.deltas[-1][0]
        (refusal,) = ask([{"prompt": prompt, "max_tokens": -1}], 1)
        assert "max_tokens" in refusal.error
        assert not refusal.deltas


def test_a_page_of_metrics_keeps_its_names() -> None:
    """Triton's counters have no _total."""
    said = '# HELP {0} Said\n# TYPE {0} counter\n{0}{{model="a"}} 2\n{0}{{model="b"}} 3\n'
    names = ("nv_inference_request_failure", "conch_requests_total", "conch_e2e_seconds_count")
    assert page("".join(said.format(name) for name in names)) == dict.fromkeys(names, 5.0)
