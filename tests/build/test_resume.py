"""What an interruption leaves, and what the next run makes of it."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from build import chain
from build.publish import published
from contract.errors import BuildError, VerifyError
from contract.manifest import MANIFEST, load_manifest
from contract.spec import load_spec
from tests import tiny
from tests.build.conftest import CODE, LOOSE, Site, make_site

HINT = "interrupted: run it again and it goes on where it stopped"


def interrupted(site: Site, number: signal.Signals) -> tuple[int, str]:
    """Start a build and send it a signal while the engine is made; its status and what it said after."""
    build = subprocess.Popen(site.command(), cwd=CODE, stderr=subprocess.PIPE, text=True)
    assert build.stderr
    with build:
        while not list((site.home / ".work").glob(".engine-*.unfinished/*")):
            assert build.poll() is None, build.stderr.read()
            time.sleep(0.01)
        build.send_signal(number)
        said = build.stderr.read()
    return build.returncode, said


def test_interrupted_and_killed_it_goes_on_from_the_finished_step(site: Site) -> None:
    status, said = interrupted(site, signal.SIGINT)
    assert status == 130
    assert said.splitlines()[-1] == HINT
    assert "Traceback" not in said
    assert site.steps() == ["convert", "fetch"]
    assert site.engines() == []

    status, _ = interrupted(site, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert site.engines() == []
    assert len(site.steps()) == 3  # the engine's folder is hidden, and named unfinished

    run = site.run()
    assert run.returncode == 0, run.stderr
    assert "✓ fetch: kept from an earlier run\n✓ convert: kept from an earlier run\n✓ engine: " in run.stderr
    assert site.steps() == ["convert", "fetch"]
    current = str((site.home / "current").readlink())
    assert site.engines() == sorted([current, "current"])

    again = site.run()
    assert again.returncode == 0
    assert f"{current} is there already" in again.stderr
    assert "engine: kept" not in again.stderr


def test_sigterm_ends_it_as_cleanly(site: Site) -> None:
    status, said = interrupted(site, signal.SIGTERM)
    assert (status, said.splitlines()[-1]) == (143, HINT)
    assert site.steps() == ["convert", "fetch"]


def test_one_build_at_a_time(site: Site) -> None:
    build = subprocess.Popen(site.command(), cwd=CODE, stderr=subprocess.DEVNULL)
    with build:
        while not (site.home / ".work" / ".lock").exists():
            assert build.poll() is None
            time.sleep(0.01)
        with pytest.raises(BuildError, match=r"another build is at work in .*/engines/tiny/.work"):
            site.build()
        build.kill()


def test_what_fails_verify_is_kept_but_not_published(
    tmp_path: Path, llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = {"min_top1_agreement": 1, "max_perplexity_ratio": 1}
    site = make_site(tmp_path, llama, engine={"precision": "int8"}, verify=strict)
    with pytest.raises(VerifyError, match=r"top-1 agreement is 0\.\d+, verify\.min_top1_agreement is 1\.0"):
        site.build()
    assert site.engines() == []
    assert site.steps() == ["convert", "engine", "fetch"]

    site.change(verify=LOOSE)
    capsys.readouterr()
    engine = site.build()
    assert "engine: kept from an earlier run" in capsys.readouterr().err
    assert (site.home / "current").resolve() == engine

    site.change(verify=strict)  # and what is published answers to the limits of today
    with pytest.raises(VerifyError, match=r"Use a higher engine\.precision, or other limits"):
        site.build()


@pytest.mark.parametrize("damage", ["file cut short", "manifest of the future", "no manifest"])
def test_a_damaged_engine_counts_for_none(built: Site, tmp_path: Path, damage: str) -> None:
    whole = built.build()
    engine = shutil.copytree(whole, tmp_path / whole.name)
    manifest, weights = engine / MANIFEST, engine / "openvino_model.bin"
    match damage:
        case "file cut short":
            os.truncate(weights, 100)
        case "manifest of the future":
            manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
        case "no manifest":
            manifest.unlink()
    assert published(whole.parent, whole.name) == load_manifest(whole)
    assert published(tmp_path, whole.name) is None
    assert not engine.exists()  # and is built again


def test_a_changed_checkpoint_is_another_version(tmp_path: Path) -> None:
    site = make_site(tmp_path, tiny.write_checkpoint(tmp_path / "checkpoint"))
    first = site.build()
    tiny.write_checkpoint(tmp_path / "checkpoint", initializer_range=0.2)
    second = site.build()
    assert first != second
    assert load_manifest(first).origin != load_manifest(second).origin


def test_publishing_another_version_swaps_one_link(site: Site) -> None:
    site.change(verify=LOOSE)
    first = site.build()
    link = site.home / "current"
    assert not link.readlink().is_absolute()  # the root can be moved
    site.change(verify=LOOSE, engine={"precision": "int8"})
    apart = chain.build(site.config, load_spec(site.config), site.root, use=False)  # as a release has it
    assert link.resolve() == first
    second = site.build()
    assert second == apart
    assert link.resolve() == second != first
    assert site.engines() == sorted(["current", first.name, second.name])
    assert not list(site.home.glob(".current*"))

    site.change(verify=LOOSE, engine={"precision": "fp32"})
    assert site.build() == first == link.resolve()
