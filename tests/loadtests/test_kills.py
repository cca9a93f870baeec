"""Kill -9 of each process of a deployment under 64 streams, once (two minutes); ``make kills`` does it ten times."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.repository import write_repository
from contract.nvidia import TEXT_UNARY, TOKENS_UNARY
from contract.spec import Deployment, write_spec
from contract.stage import run_dir
from loadtests.family import family_of
from loadtests.kills import Site, strike
from loadtests.left import look
from serving.supervisor import find, start, stop
from tests.e2e.servers import on_free_ports

# As stages die; make kills does them too.
VIEWS = {TEXT_UNARY, TOKENS_UNARY}
# As after a healthy time, each failure is the first.
PROGRAM = (sys.executable, "-m", "tests.loadtests.forgiving")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A deployment whose temporary files have a folder of their own."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    wanted = {"name": "killed", "engine": {"runtime": "synthetic", "step_ms": 5}, "gateway": {"processes": 2}}
    spec = on_free_ports(Deployment.model_validate(wanted))
    write_repository(tmp_path, spec, None)
    config = run_dir(tmp_path, spec.name) / "config.yaml"
    config.parent.mkdir(parents=True)
    write_spec(config, spec)

    def up() -> None:
        start(spec, tmp_path, str(config), program=PROGRAM)

    up()
    yield Site(spec, tmp_path, up)
    running = find(spec, tmp_path)
    if running:
        stop(running)


@pytest.mark.long
def test_kill_each_process(site: Site) -> None:
    prefix = look(site.spec, site.root, site.pid()).prefix
    victims = sorted(family_of(site.pid()))
    assert victims == [
        *("filter", "filter's guard", "gateway", "gateway's guard", "gateway's worker 1", "gateway's worker 2"),
        *("killed_engine", "killed_postprocess", "killed_preprocess", "supervisor"),
        *("tensorrt_llm", "tensorrt_llm_bls", "tritonserver", "tritonserver's guard"),
    ]
    for victim in sorted(set(victims) - VIEWS):
        blow = asyncio.run(strike(site, victim))
        assert blow.faults == [], blow
        assert blow.told + blow.whole == 64, blow
        assert bool(blow.told) != victim.endswith("guard"), blow
    running = find(site.spec, site.root)
    assert running
    stop(running)
    assert look(site.spec, site.root, None, prefix).everything == []


def test_orphans_do_not_keep_the_next_from_starting(site: Site) -> None:
    """With its guards the supervisor dies, and nobody ends the rest: the next one does."""
    family = family_of(site.pid())
    for name in ("filter's guard", "gateway's guard", "tritonserver's guard", "supervisor"):
        family[name].kill()
    family["supervisor"].wait(10)
    orphans = [family[name] for name in ("gateway", "gateway's worker 1", "tritonserver")]
    assert all(each.is_running() for each in orphans)
    site.up()
    assert not any(each.is_running() for each in orphans)
    left = look(site.spec, site.root, site.pid())
    assert not left.processes and not left.listeners
