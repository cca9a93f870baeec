"""Releases under load: what is good is promoted, what is not is rolled back with the reason, and no user notices."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from contract.rollout import told_rollout, waiting_repository
from contract.state import read_state
from release.live import Live
from tests.e2e.servers import CODE
from tests.release.conftest import STEP_MS, STREAMS, Site, until

FEW = ("--shares", "30,50", "--pairs", "8", "--minutes", "1")
FOR_LONG = ("--pairs", "100000", "--minutes", "3")


def step_ms(site: Site) -> float:
    """Of the version that is served, as its repository has it."""
    return Live(site.root, site.server.spec.name).serves().spec.engine.step_ms


def test_a_good_version_takes_the_place_and_gives_it_back(site: Site, tmp_path: Path) -> None:
    config = site.version(tmp_path, engine={"step_ms": STEP_MS - 1}, limits={"max_batch_size": 32})
    with site.crowd().at_work():
        ended = site.run("start", *FEW, config=config)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert site.last()["verdict"] == "promoted"
        assert step_ms(site) == STEP_MS - 1
        assert site.server.state.release == site.last()["release"]
        back = site.run("rollback", config=config)
        assert back.returncode == 0, back.stdout + back.stderr
    assert step_ms(site) == STEP_MS
    assert not site.trial_dir.exists()
    assert "promoted after" in site.run("list", config=config).stdout


def test_a_slower_version_is_rolled_back(site: Site, tmp_path: Path) -> None:
    config = site.version(tmp_path, engine={"step_ms": STEP_MS * 1.3})
    with site.crowd().at_work():
        ended = site.run("start", *FOR_LONG, "--shares", "50", config=config)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "each token takes more than 1.1 × the current one's" in site.last()["reason"]
    assert step_ms(site) == STEP_MS
    assert told_rollout(site.server.folder) is None


def test_a_version_that_dies_is_rolled_back_and_its_answers_go_on(site: Site, tmp_path: Path) -> None:
    config = site.version(tmp_path, engine={"step_ms": STEP_MS - 1})
    words = ("start", *FOR_LONG, "--shares", "50")
    with site.crowd().at_work():
        releasing = subprocess.Popen(site.command(*words, config=config), cwd=CODE, stdout=subprocess.PIPE, text=True)
        until(lambda: (site.server.folder / "rollout.json").exists())
        observed = site.server.folder / "releases"
        until(lambda: sum(path.stat().st_size for path in observed.glob("*/observed.jsonl")) > 20_000)
        trial = read_state(site.trial_dir)
        assert trial
        os.kill(trial.server_pid, signal.SIGKILL)
        said, _ = releasing.communicate(timeout=60)
    assert releasing.returncode == 1, said
    assert "its server ended: the server was killed by SIGKILL" in site.last()["reason"]


@pytest.mark.long
def test_one_that_is_asked_back_is_ended_at_once(site: Site, tmp_path: Path) -> None:
    config = site.version(tmp_path, engine={"step_ms": STEP_MS - 1})
    with site.crowd().at_work():
        releasing = subprocess.Popen(
            site.command("start", *FOR_LONG, config=config), cwd=CODE, stdout=subprocess.PIPE, text=True
        )
        until(lambda: told_rollout(site.server.folder) is not None)
        other = site.run("start", *FEW, config=config)
        assert other.returncode == 1
        assert "another release of synthetic is on" in other.stderr
        back = site.run("rollback", config=config)
        releasing.communicate(timeout=30)
    assert back.returncode == 0, back.stderr
    assert "the version before has all of the traffic" in back.stdout
    assert site.last()["reason"].startswith("it was asked for")


@pytest.mark.long
def test_one_whose_releaser_is_killed_leaves_the_version_before(site: Site, tmp_path: Path) -> None:
    config = site.version(tmp_path, engine={"step_ms": STEP_MS - 1})
    with site.crowd().at_work():
        releasing = subprocess.Popen(
            site.command("start", *FOR_LONG, config=config), cwd=CODE, stdout=subprocess.DEVNULL
        )
        until(lambda: told_rollout(site.server.folder) is not None)
        trial = read_state(site.trial_dir)
        assert trial
        releasing.kill()
        releasing.wait()
        until(lambda: read_state(site.trial_dir) is None)
    assert told_rollout(site.server.folder) is None
    assert step_ms(site) == STEP_MS


def test_one_that_does_not_start_is_rolled_back(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    runs_nowhere = {"runtime": "trtllm", "precision": "bf16", "step_ms": STEP_MS}
    config = site.version(tmp_path, engine=runs_nowhere, source={"kind": "path", "path": str(folder)})
    ended = site.run("start", *FEW, config=config)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    assert site.last()["verdict"] == "rolled back"


@pytest.mark.long
def test_one_that_does_not_start_in_its_place_gives_it_back(site: Site, tmp_path: Path) -> None:
    """Its repository is spoiled between its trial and its promotion."""
    config = site.version(tmp_path, engine={"step_ms": STEP_MS - 1})
    with site.crowd().at_work():
        releasing = subprocess.Popen(
            site.command("start", *FEW, config=config), cwd=CODE, stdout=subprocess.PIPE, text=True
        )
        waits = waiting_repository(site.root, site.server.spec.name)
        until(waits.is_dir)
        for model in waits.glob("*/config.pbtxt"):
            model.write_text("this is no config")
        said, _ = releasing.communicate(timeout=120)
    assert releasing.returncode == 1, said
    assert "it did not start in the current one's place" in site.last()["reason"]
    assert step_ms(site) == STEP_MS


@pytest.mark.long
def test_where_two_do_not_fit_one_takes_the_place_at_once(site: Site, tmp_path: Path) -> None:
    config = site.version(tmp_path, engine={"step_ms": STEP_MS - 1})
    ended = site.run("start", "--swap", config=config)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert step_ms(site) == STEP_MS - 1
    too_short = site.version(tmp_path, limits={"max_seq_len": 24, "max_input_len": 16})
    ended = site.run("start", "--swap", config=too_short)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert site.last()["verdict"] == "rolled back"
    assert step_ms(site) == STEP_MS - 1
    back = site.run("rollback", "--swap", config=config)
    assert back.returncode == 0, back.stdout + back.stderr
    assert step_ms(site) == STEP_MS
    crowd = site.crowd()
    with crowd.at_work():
        until(lambda: len(crowd.answers) > STREAMS)
